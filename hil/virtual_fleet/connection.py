"""One device's connection: TLS and MQTT over a socket that never blocks, driven by whoever watches it."""

import os
import select
import socket
import ssl
from collections.abc import Iterable
from enum import StrEnum

from fleet_contract import mqtt_packets
from fleet_contract.mqtt_packets import Connack, Disconnect, FromServer, Level, Suback, Will
from fleet_contract.mqtt_reader import Reader

_READ_BYTES = 16_384
_BURST_S = 0.1
"""A slow link may send at once what it would send in this time."""


class Broken(ConnectionError):
    """There is no connection any more, or none came about; the text says why."""


class Stage(StrEnum):
    REACHING = "reaching"
    SECURING = "securing"
    GREETING = "greeting"
    OPEN = "open"


class Connection:
    """From the first packet to the last. After Broken, `close` it: nothing else may be called. TLS works in memory: a packet then costs one system
    call instead of two a TLS record."""

    def __init__(self, address: tuple, context: ssl.SSLContext, host: str, hello: bytes, subscribe: bytes, level: Level) -> None:
        """Begins to connect. `hello` is the CONNECT, `subscribe` the one SUBSCRIBE. Raises Broken."""
        self._hello, self._subscribe = hello, subscribe
        self._reader = Reader(level)
        self._plain, self._wire = bytearray(), b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.stage = Stage.REACHING
        self.receive_maximum = 0
        self.bytes_per_s: float | None = None
        self._allowed, self._allowed_s = 0.0, 0.0
        self.wants = select.EPOLLOUT
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.fd = self._socket.fileno()
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect_ex(address)
        except OSError as error:
            self._socket.close()
            raise Broken(f"cannot connect: {error}") from error

    def close(self, farewell: bytes = b"") -> None:
        """Without a `farewell` (a DISCONNECT) the broker publishes the last will."""
        try:
            if farewell and self.stage is Stage.OPEN and not self.held:
                self._tls.write(farewell)
                self._push()
        except OSError:
            pass
        self._socket.close()

    def advance(self, now_s: float) -> list[FromServer]:
        """What came, once the socket is ready. Raises Broken."""
        try:
            if self.stage is Stage.REACHING:
                self._reach()
                return []
            self._pull()
            if self.stage is Stage.SECURING and not self._secure():
                return []
            packets = self._receive()
            if self.held or self._outgoing.pending:
                self.flush(now_s)
            return packets
        except OSError as error:
            raise Broken(str(error)) from error

    def send(self, data: bytes, now_s: float) -> None:
        """What does not fit now waits in memory. Raises Broken."""
        self._plain += data
        self.flush(now_s)

    def flush(self, now_s: float) -> None:
        """Raises Broken."""
        try:
            if self._plain and not self._wire:
                self._encrypt(now_s)
            self._push()
        except OSError as error:
            raise Broken(str(error)) from error

    @property
    def held(self) -> int:
        """Bytes that the link does not take yet."""
        return len(self._plain) + len(self._wire)

    def _encrypt(self, now_s: float) -> None:
        if self.bytes_per_s is None:
            self._tls.write(self._plain)
            self._plain.clear()
            return
        gained = (now_s - self._allowed_s) * self.bytes_per_s
        self._allowed = min(self.bytes_per_s * _BURST_S, self._allowed + gained)
        self._allowed_s = now_s
        if self._allowed >= 1:
            sent = self._tls.write(self._plain[: int(self._allowed)])
            self._allowed -= sent
            del self._plain[:sent]

    def _reach(self) -> None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise Broken(f"cannot connect: {os.strerror(code)}")
        self.stage = Stage.SECURING
        self._secure()

    def _secure(self) -> bool:
        """Whether the handshake is done; then the CONNECT is on its way."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
            return False
        self.stage = Stage.GREETING
        self._tls.write(self._hello)
        self._push()
        return True

    def _pull(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise Broken("the broker hung up")
        self._incoming.write(data)

    def _push(self) -> None:
        self._wire += self._outgoing.read()
        if self._wire:
            try:
                self._wire = self._wire[self._socket.send(self._wire) :]
            except BlockingIOError:
                pass
        self.wants = select.EPOLLIN | select.EPOLLOUT if self._wire else select.EPOLLIN

    def _receive(self) -> list[FromServer]:
        found: list[FromServer] = []
        while self._incoming.pending or self._tls.pending():
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            packets = self._reader.feed(data)
            found += packets if self.stage is Stage.OPEN else self._greeted(packets)
        return found

    def _greeted(self, packets: Iterable[FromServer]) -> list[FromServer]:
        """CONNACK, then SUBACK; what comes behind it is the device's."""
        rest: list[FromServer] = []
        for packet in packets:
            if isinstance(packet, Connack):
                self._accept(packet)
            elif isinstance(packet, Suback):
                if any(code >= 0x80 for code in packet.codes):
                    raise Broken("the broker refused the subscription")
                self.stage = Stage.OPEN
            elif isinstance(packet, Disconnect):
                raise Broken(f"the broker ended it: {packet.code:#04x}")
            else:
                rest.append(packet)
        return rest

    def _accept(self, answer: Connack) -> None:
        if answer.code:
            raise Broken(f"the broker refused: {answer.code:#04x}")
        self.receive_maximum = answer.receive_maximum
        self._tls.write(self._subscribe)
        self._push()


def hello(device_id: str, topic: str, last_will: bytes, keepalive_s: int, level: Level) -> bytes:
    return mqtt_packets.connect(device_id, keepalive_s, level, will=Will(topic, last_will))
