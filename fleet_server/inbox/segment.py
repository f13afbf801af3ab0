"""Many messages in one value of a database, and out of it again."""

from collections.abc import Sequence

import msgspec

_VERSION = 1


class BadSegment(ValueError):
    """Not what `pack` made."""


class Arrival(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message of an authenticated device, as it came: `payload` is for fleet_contract.messages. The time is in microseconds since 1970."""

    device: str
    received_at_us: int
    payload: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, list[Arrival]])


def pack(arrivals: Sequence[Arrival]) -> bytes:
    return _encoder.encode((_VERSION, arrivals))


def unpack(content: bytes) -> list[Arrival]:
    """Raises BadSegment."""
    try:
        version, arrivals = _decoder.decode(content)
    except ValueError as error:
        raise BadSegment(f"not a segment of the inbox: {error}") from error
    if version != _VERSION:
        raise BadSegment(f"a segment of version {version}, not {_VERSION}")
    return arrivals
