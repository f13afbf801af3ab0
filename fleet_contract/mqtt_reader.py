"""Reads the control packets that a server sends from a stream of bytes, however it is cut: MQTT 5 and 3.1.1."""

from collections.abc import Callable

from fleet_contract import limits
from fleet_contract.mqtt_packets import (
    BadPacket,
    Connack,
    Disconnect,
    FromServer,
    Kind,
    Level,
    Pingresp,
    Property,
    Puback,
    Publish,
    Suback,
    Unsuback,
)

_BYTE, _TWO_BYTES, _FOUR_BYTES, _VARIABLE, _BINARY, _PAIR = range(6)
_TYPE_OF_PROPERTY = (
    dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _BYTE)
    | dict.fromkeys((0x13, 0x21, 0x22, 0x23), _TWO_BYTES)
    | dict.fromkeys((0x02, 0x11, 0x18, 0x27), _FOUR_BYTES)
    | {0x0B: _VARIABLE, 0x26: _PAIR}
    | dict.fromkeys((0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F), _BINARY)
)
_WIDTH = {_BYTE: 1, _TWO_BYTES: 2, _FOUR_BYTES: 4}
_MAX_LENGTH_BYTES = 4
_PUBLISH = Kind.PUBLISH.value


class Reader:
    """Of one connection. Holds at most one packet that is not yet whole, and so at most `max_packet_bytes` beyond what it is fed."""

    def __init__(self, level: Level, *, max_packet_bytes: int = limits.MAX_MQTT_PACKET_BYTES) -> None:
        self._five = level is Level.V5
        self._max_bytes = max_packet_bytes
        self._rest = bytearray()
        self._wanted = 2

    def feed(self, data: bytes) -> list[FromServer]:
        """The packets that `data` completes, in order. Raises BadPacket; nothing may be fed afterwards."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
        packets, at, end = [], 0, len(data)
        self._wanted = 2
        while end - at >= 2:
            length, body = data[at + 1], at + 2
            if length & 0x80:
                length, body = _variable(data, at + 1, min(end, at + 1 + _MAX_LENGTH_BYTES))
                if not body:
                    if end - at > _MAX_LENGTH_BYTES:
                        raise BadPacket("a packet's length has more than four bytes", field="packet")
                    break
            if length > self._max_bytes:
                raise BadPacket(f"a packet of {length} bytes", field="packet", limit=self._max_bytes)
            if body + length > end:
                self._wanted = body + length - at
                break
            packets.append(self._packet(data[at], data, body, body + length))
            at = body + length
        self._rest = bytearray(data[at:])
        return packets

    def _packet(self, head: int, data: bytes, at: int, end: int) -> FromServer:
        if head >> 4 == _PUBLISH:
            return self._publish(head, data, at, end)
        read = _READ.get(head)
        if read is None:
            raise BadPacket(f"a server sends no packet that begins with {head:#04x}", field="packet")
        try:
            return read(data[at:end], self._five)
        except (IndexError, UnicodeDecodeError) as error:
            raise BadPacket(f"{read.__name__.strip('_')}: it ends too early", field="packet") from error

    def _publish(self, head: int, data: bytes, at: int, end: int) -> Publish:
        qos = head >> 1 & 3
        if qos > 1:
            raise BadPacket(f"a message at QoS {qos}, which nothing subscribed to", field="qos", limit=1)
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin], "big")
        number = 0
        name = data[begin:at]
        if qos:
            number = int.from_bytes(data[at : at + 2], "big")
            at += 2
        if self._five:
            at = at + 1 if data[at : at + 1] == b"\x00" else _after_properties(data, at, end)
        if at > end or (qos and not number) or not name:
            raise BadPacket("a message without a topic or a number, or that ends too early", field="packet")
        try:
            return Publish(name.decode(), data[at:end], number, head & 1 == 1, head & 8 == 8)
        except UnicodeDecodeError as error:
            raise BadPacket(f"a topic that is not UTF-8: {error}", field="topic") from error


def _after_properties(data: bytes, at: int, end: int) -> int:
    """Of a message: none changes what it says."""
    length, at = _variable(data, at, min(end, at + _MAX_LENGTH_BYTES))
    if not at or at + length > end:
        raise BadPacket("properties that end too late", field="properties")
    if Property.TOPIC_ALIAS in _properties(data[at : at + length]):
        raise BadPacket("a topic alias, which nothing allowed", field="properties")
    return at + length


def _connack(body: bytes, five: bool) -> Connack:
    code = body[1]
    told = _properties(_prefixed(body, 2)) if five and len(body) > 2 else {}
    return Connack(
        code,
        told.get(Property.RECEIVE_MAXIMUM, 65_535),
        told.get(Property.MAXIMUM_PACKET_SIZE),
        told.get(Property.SERVER_KEEP_ALIVE),
        told.get(Property.SHARED_SUBSCRIPTION_AVAILABLE, 1) == 1,
    )


def _puback(body: bytes, five: bool) -> Puback:
    return Puback(_number(body), body[2] if five and len(body) > 2 else 0)


def _suback(body: bytes, five: bool) -> Suback:
    return Suback(_number(body), tuple(body[2 + (_prefix_bytes(body, 2) if five else 0) :]))


def _unsuback(body: bytes, five: bool) -> Unsuback:
    return Unsuback(_number(body))


def _pingresp(body: bytes, five: bool) -> Pingresp:
    return Pingresp()


def _disconnect(body: bytes, five: bool) -> Disconnect:
    return Disconnect(body[0] if body else 0)


_READ: dict[int, Callable[[bytes, bool], FromServer]] = {
    Kind.CONNACK << 4: _connack,
    Kind.PUBACK << 4: _puback,
    Kind.SUBACK << 4: _suback,
    Kind.UNSUBACK << 4: _unsuback,
    Kind.PINGRESP << 4: _pingresp,
    Kind.DISCONNECT << 4: _disconnect,
}


def _number(body: bytes) -> int:
    return body[0] << 8 | body[1]


def _prefixed(body: bytes, at: int) -> bytes:
    return body[at + _prefix_bytes(body, at, value_too=False) : at + _prefix_bytes(body, at)]


def _prefix_bytes(body: bytes, at: int, *, value_too: bool = True) -> int:
    """Of a variable byte integer at `at`, and of as many bytes as it says."""
    length, after = _variable(body, at, min(len(body), at + _MAX_LENGTH_BYTES))
    if not after or after + length > len(body):
        raise BadPacket("properties that end too late", field="properties")
    return after - at + (length if value_too else 0)


def _variable(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5, 1.5.5) and where it ends; that is 0 where it does not end before `end`."""
    value = shift = 0
    while at < end:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
    return 0, 0


def _properties(data: bytes) -> dict[int, int]:
    """The numbers among them; texts and data are stepped over."""
    found, at = {}, 0
    while at < len(data):
        kind, at = data[at], at + 1
        form = _TYPE_OF_PROPERTY.get(kind)
        if form is None:
            raise BadPacket(f"no property has the number {kind:#04x}", field="properties")
        if form in _WIDTH:
            found[kind] = int.from_bytes(data[at : at + _WIDTH[form]], "big")
            at += _WIDTH[form]
        elif form == _VARIABLE:
            found[kind], at = _variable(data, at, min(len(data), at + _MAX_LENGTH_BYTES))
            at = at or len(data) + 1
        else:
            for _ in range(2 if form == _PAIR else 1):
                at += 2 + int.from_bytes(data[at : at + 2], "big")
    if at > len(data):
        raise BadPacket("a property that ends too early", field="properties")
    return found
