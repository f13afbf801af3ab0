"""One TLS connection to a broker, without blocking: bytes are moved in large pieces, and TLS works in memory (a broker writes each message as a record
of its own, and a socket of the ssl module reads each with two system calls)."""

import socket
import ssl

from fleet_contract import limits, mqtt_packets
from fleet_contract.mqtt_packets import Connack, Disconnect, FromServer, Level
from fleet_contract.mqtt_reader import Reader

KEEPALIVE_S = 20
_READ_BYTES = 256 * limits.KIB
_REFUSED_LEVEL = (0x01, 0x84)
"""Unacceptable protocol version (3.1.1), unsupported protocol version (5)."""


class Closed(ConnectionError):
    """The broker is gone, or ended the connection."""


class OtherLevel(ConnectionError):
    """The broker says that it does not speak this version of MQTT."""


class Line:
    """For one thread. `accepted` is what the broker said to the CONNECT."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str, level: Level) -> None:
        self.socket, self.level = plain, level
        self._from_wire, self._to_wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_wire, self._to_wire, server_hostname=host)
        self._reader = Reader(level)
        self._space = memoryview(bytearray(2 * _READ_BYTES))
        self._unsent = memoryview(b"")
        self.accepted = Connack(0)

    @property
    def unsent_bytes(self) -> int:
        return len(self._unsent) + self._to_wire.pending

    def read(self) -> list[FromServer]:
        """What has come by now. Raises Closed, ssl.SSLError, and BadPacket."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise Closed("the broker closed the connection")
        self._from_wire.write(data)
        packets = self._reader.feed(self._decrypt())
        if packets and type(packets[-1]) is Disconnect:
            raise Closed(f"the broker ended the connection (reason {packets[-1].code:#04x})")
        return packets

    def write(self, data: bytes) -> None:
        """Send what the socket takes now; the rest with the next `flush`. Raises OSError."""
        if data:
            self._tls.write(data)
        self.flush()

    def flush(self) -> None:
        if not self._unsent and self._to_wire.pending:
            self._unsent = memoryview(self._to_wire.read())
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return
            if not self._unsent and self._to_wire.pending:
                self._unsent = memoryview(self._to_wire.read())

    def close(self) -> None:
        self.socket.close()

    def open(self, packet: bytes) -> None:
        """Shake hands and send the CONNECT, while the socket still blocks. Raises OSError, OtherLevel, Closed."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self._from_wire.write(self._received())
        self.write(packet)
        packets: list[FromServer] = []
        while not packets:
            self._from_wire.write(self._received())
            packets = self._reader.feed(self._decrypt())
        answer = packets[0]
        if isinstance(answer, Connack) and answer.code in _REFUSED_LEVEL:
            raise OtherLevel(f"MQTT level {self.level.value} is not spoken")
        if not isinstance(answer, Connack) or answer.code:
            raise Closed(f"the broker refused the connection: {answer}")
        self.accepted = answer
        self.socket.setblocking(False)

    def _received(self) -> bytes:
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise Closed("the broker closed the connection without an answer")
        return data

    def _decrypt(self) -> bytes:
        """Of what is in memory, all: a record is at most 16 KiB, and there are no more of them than fit."""
        at = 0
        try:
            while number := self._tls.read(_READ_BYTES, self._space[at:]):
                at += number
        except ssl.SSLWantReadError:
            return bytes(self._space[:at])
        if not at:
            raise Closed("the broker ended the TLS session")
        return bytes(self._space[:at])  # its last words; the end comes with the next read


def dial(host: str, port: int, context: ssl.SSLContext, name: str, level: Level, *, credit: int, timeout_s: float) -> Line:
    """`credit`: how many messages the broker may send unacknowledged (MQTT 5). Raises OSError: Closed, OtherLevel and those of sockets and TLS."""
    plain = socket.create_connection((host, port), timeout_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(plain, context, host, level)
        line.open(mqtt_packets.connect(name, KEEPALIVE_S, level, receive_maximum=credit))
    except BaseException:
        plain.close()
        raise
    return line
