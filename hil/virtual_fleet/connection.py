"""One device's connection: TLS and MQTT over a socket that never blocks, driven by whoever watches it."""

import select
import socket
import ssl
from collections.abc import Iterable
from enum import StrEnum

from fleet_contract import mqtt_packets
from fleet_contract.mqtt_packets import Connack, Disconnect, FromServer, Level, Suback, Will
from fleet_contract.mqtt_reader import Reader

_READ_BYTES = 65_536
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
    """From the first packet to the last. After Broken, `close` it: nothing else may be called."""

    def __init__(self, address: tuple, context: ssl.SSLContext, host: str, hello: bytes, subscribe: bytes, level: Level) -> None:
        """Begins to connect. `hello` is the CONNECT, `subscribe` the one SUBSCRIBE. Raises Broken."""
        self._hello, self._subscribe = hello, subscribe
        self._reader = Reader(level)
        self._out = bytearray()
        self.stage = Stage.REACHING
        self.receive_maximum = 0
        self.refused = False
        """The broker did not accept the CONNECT: it may not speak this version."""
        self.bytes_per_s: float | None = None
        self._allowed, self._allowed_s = 0.0, 0.0
        plain = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.connect_ex(address)
            self._socket = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        except OSError as error:
            plain.close()
            raise Broken(f"cannot connect: {error}") from error
        self.wants = select.EPOLLOUT

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self, farewell: bytes = b"") -> None:
        """Without a `farewell` (a DISCONNECT) the broker publishes the last will."""
        try:
            if farewell and self.stage is Stage.OPEN and not self._out:
                self._socket.send(farewell)
        except OSError:
            pass
        self._socket.close()

    def advance(self, now_s: float) -> list[FromServer]:
        """What came, once the socket is ready. Raises Broken."""
        try:
            if self.stage in (Stage.REACHING, Stage.SECURING):
                self._secure()
                return []
            packets = self._receive()
            self.flush(now_s)
            return packets
        except OSError as error:
            raise Broken(str(error)) from error

    def send(self, data: bytes, now_s: float) -> None:
        """What does not fit now waits in memory. Raises Broken."""
        self._out += data
        self.flush(now_s)

    def flush(self, now_s: float) -> None:
        """Raises Broken."""
        while self._out and (most := self._allowance(now_s)) > 0:
            try:
                sent = self._socket.send(memoryview(self._out)[:most] if most < len(self._out) else bytes(self._out))
            except ssl.SSLWantWriteError:
                self.wants = select.EPOLLIN | select.EPOLLOUT
                return
            except ssl.SSLWantReadError:
                return
            except OSError as error:
                raise Broken(str(error)) from error
            del self._out[:sent]
            self._allowed -= sent
        self.wants = select.EPOLLIN

    @property
    def held(self) -> int:
        """Bytes that the link does not take yet."""
        return len(self._out)

    def _allowance(self, now_s: float) -> int:
        if self.bytes_per_s is None:
            return len(self._out)
        gained = (now_s - self._allowed_s) * self.bytes_per_s
        self._allowed = min(self.bytes_per_s * _BURST_S, self._allowed + gained)
        self._allowed_s = now_s
        return int(self._allowed)

    def _secure(self) -> None:
        if self.stage is Stage.REACHING:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise Broken(f"cannot connect: {socket.errno.errorcode.get(code, code)}")
            self.stage = Stage.SECURING
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self.wants = select.EPOLLIN
            return
        except ssl.SSLWantWriteError:
            self.wants = select.EPOLLOUT
            return
        self.stage = Stage.GREETING
        self.wants = select.EPOLLIN
        self._socket.send(self._hello)

    def _receive(self) -> list[FromServer]:
        found: list[FromServer] = []
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return found
            if not data:
                raise Broken("the broker hung up")
            packets = self._reader.feed(data)
            found += packets if self.stage is Stage.OPEN else self._greeted(packets)
            if not self._socket.pending():
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
            self.refused = True
            raise Broken(f"the broker refused: {answer.code:#04x}")
        self.receive_maximum = answer.receive_maximum
        self._socket.send(self._subscribe)


def hello(device_id: str, topic: str, last_will: bytes, keepalive_s: int, level: Level) -> bytes:
    return mqtt_packets.connect(device_id, keepalive_s, level, will=Will(topic, last_will))
