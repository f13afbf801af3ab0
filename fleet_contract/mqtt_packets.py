"""MQTT 5 and 3.1.1 control packets of a client, as bytes: no socket, no thread, no session. What a server sends is read by fleet_contract.mqtt_reader.

QoS 2 is not spoken, and no topic aliases: nothing here needs them.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import msgspec

from fleet_contract import limits
from fleet_contract.errors import ContractError, TooLarge


class BadPacket(ContractError):
    """Bytes that are no control packet that a server may send, or one above the bound. The connection is of no more use."""

    code = "bad-packet"


class Level(IntEnum):
    """The protocol level byte of a CONNECT."""

    V311 = 4
    V5 = 5


class Kind(IntEnum):
    """The upper four bits of a packet's first byte (MQTT 5, 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Property(IntEnum):
    """Those that are sent or heeded (MQTT 5, 2.2.2.2)."""

    SERVER_KEEP_ALIVE = 0x13
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS = 0x23
    MAXIMUM_PACKET_SIZE = 0x27
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


class Connack(msgspec.Struct, frozen=True):
    """`code` 0: accepted; above, the reasons of MQTT 5, 3.2.2.2, or the return codes of 3.1.1. `receive_maximum` bounds the unacknowledged QoS 1
    messages that the client may send. `keepalive_s` and `max_packet_bytes` are None where the server did not say."""

    code: int
    receive_maximum: int = 65_535
    max_packet_bytes: int | None = None
    keepalive_s: int | None = None
    shares: bool = True


class Publish(msgspec.Struct, frozen=True, gc=False):
    """`packet_id` is 0 at QoS 0; else `puback` answers it."""

    topic: str
    payload: bytes
    packet_id: int = 0
    retain: bool = False
    duplicate: bool = False


class Puback(msgspec.Struct, frozen=True, gc=False):
    """`code` below 0x80: taken (0x10: by no subscriber)."""

    packet_id: int
    code: int = 0


class Suback(msgspec.Struct, frozen=True):
    """One code for each filter asked for: the QoS granted, or 0x80 and above where it was refused."""

    packet_id: int
    codes: tuple[int, ...]


class Unsuback(msgspec.Struct, frozen=True):
    packet_id: int


class Pingresp(msgspec.Struct, frozen=True):
    pass


class Disconnect(msgspec.Struct, frozen=True):
    """The server ends the connection (MQTT 5 alone). 0x8e: another client took the session over."""

    code: int = 0


FromServer = Connack | Publish | Puback | Suback | Unsuback | Pingresp | Disconnect


@dataclass(frozen=True)
class Will:
    """Published retained, at QoS 1, when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes


class _ConnectFlag(IntFlag):
    CLEAN = 0x02
    WILL = 0x04
    WILL_QOS_1 = 0x08
    WILL_RETAIN = 0x20
    PASSWORD = 0x40
    USER = 0x80


PINGREQ = bytes((Kind.PINGREQ << 4, 0))
_PUBACK = struct.Struct(">BBH")
_QOS_1, _RETAIN, _DUPLICATE = 0x02, 0x01, 0x08


def connect(
    client_id: str,
    keepalive_s: int,
    level: Level,
    *,
    will: Will | None = None,
    user: str | None = None,
    password: str | None = None,
    receive_maximum: int = 200,
    max_packet_bytes: int = limits.MAX_MQTT_PACKET_BYTES,
) -> bytes:
    """A session that begins and ends with the connection. `receive_maximum`, the messages that the server may send unacknowledged, is heeded by
    MQTT 5 alone."""
    flags = _ConnectFlag.CLEAN
    properties = none = b"\x00" if level is Level.V5 else b""
    if level is Level.V5:
        properties = struct.pack(">BBHBI", 8, Property.RECEIVE_MAXIMUM, receive_maximum, Property.MAXIMUM_PACKET_SIZE, max_packet_bytes)
    rest = _text(client_id)
    if will is not None:
        flags |= _ConnectFlag.WILL | _ConnectFlag.WILL_QOS_1 | _ConnectFlag.WILL_RETAIN
        rest += none + _text(will.topic) + _binary(will.payload)
    if user is not None:
        flags |= _ConnectFlag.USER
        rest += _text(user)
        if password is not None:
            flags |= _ConnectFlag.PASSWORD
            rest += _text(password)
    return _packet(Kind.CONNECT << 4, _text("MQTT") + struct.pack(">BBH", level, flags, keepalive_s) + properties + rest)


def publish(topic: str, payload: bytes, *, level: Level, packet_id: int = 0, retain: bool = False, duplicate: bool = False) -> bytes:
    """At QoS 1 with a `packet_id` of 1 to 65535, at QoS 0 without one."""
    head = Kind.PUBLISH << 4 | (_QOS_1 if packet_id else 0) | (_RETAIN if retain else 0) | (_DUPLICATE if duplicate else 0)
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    properties = b"\x00" if level is Level.V5 else b""
    return _packet(head, b"".join((_text(topic), number, properties, payload)))


def puback(packet_id: int) -> bytes:
    """Of both versions: success needs no reason code."""
    return _PUBACK.pack(Kind.PUBACK << 4, 2, packet_id)


def pubacks(packet_ids: list[int]) -> bytes:
    """None for a message at QoS 0, whose number is 0: a broker ends the connection of who acknowledges that."""
    return b"".join([_PUBACK.pack(Kind.PUBACK << 4, 2, packet_id) for packet_id in packet_ids if packet_id])


def subscribe(packet_id: int, filters: list[str], *, level: Level) -> bytes:
    """At QoS 1."""
    return _subscription(Kind.SUBSCRIBE, packet_id, [_text(filter) + b"\x01" for filter in filters], level)


def unsubscribe(packet_id: int, filters: list[str], *, level: Level) -> bytes:
    return _subscription(Kind.UNSUBSCRIBE, packet_id, [_text(filter) for filter in filters], level)


def disconnect(level: Level, *, with_will: bool = False) -> bytes:
    """In good order: no will is published, unless it is asked for (MQTT 5, 3.14.2.1)."""
    return _packet(Kind.DISCONNECT << 4, b"\x04" if with_will and level is Level.V5 else b"")


def _subscription(kind: Kind, packet_id: int, filters: list[bytes], level: Level) -> bytes:
    properties = b"\x00" if level is Level.V5 else b""
    return _packet(kind << 4 | 0x02, packet_id.to_bytes(2, "big") + properties + b"".join(filters))


def _packet(head: int, body: bytes) -> bytes:
    """Raises TooLarge."""
    length = len(body)
    if length > limits.MAX_MQTT_PACKET_BYTES:
        raise TooLarge(f"a packet of {length} bytes", field="packet", limit=limits.MAX_MQTT_PACKET_BYTES)
    if length < 0x80:
        return bytes((head, length)) + body
    if length < 0x4000:
        return bytes((head, length & 0x7F | 0x80, length >> 7)) + body
    return bytes((head, length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14)) + body


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise TooLarge(f"{len(data)} bytes in one field of a packet", field="packet", limit=0xFFFF)
    return len(data).to_bytes(2, "big") + data
