"""zstd under a bound that the sender cannot move."""

import sys
from typing import Literal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Codec = Literal["none", "zstd"]

_LEVEL = 1
"""On columns of records as short as 3, and ten times as fast where they are random."""
_LEAST_BYTES = 256
"""Below, little is gained, and a compressor costs 25 us to set up."""
_MAGIC, _SINGLE_SEGMENT = b"\x28\xb5\x2f\xfd", 0x20
"""RFC 8878, 3.1.1: of a frame whose window is its content."""
_MAX_WINDOW_LOG = 20
"""zstd could otherwise make the reader set aside 128 MiB for 60 KiB."""


class BadCompression(ValueError):
    """The bytes do not hold what they are said to."""


def compress(data: bytes) -> tuple[Codec, bytes]:
    """The shorter of both; what is short already stays as it is."""
    if len(data) < _LEAST_BYTES:
        return "none", data
    small = zstd.compress(data, _LEVEL)
    return ("zstd", small) if len(small) < len(data) else ("none", data)


def decompress(codec: Codec, data: bytes, length: int) -> bytes:
    """Exactly `length` bytes; never holds more than one byte beyond. Raises BadCompression."""
    whole = data if codec == "none" else _open(data, length)
    if len(whole) != length:
        raise BadCompression(f"has {len(whole)} bytes where {length} belong")
    return whole


def is_plain(data: bytes, length: int) -> bool:
    """Whether `data` is one zstd frame that says itself that it holds `length` bytes, and needs no more memory than these: whatever decompresses it
    whole finds either exactly them or an error."""
    if data[:4] != _MAGIC or len(data) == 4 or not data[4] & _SINGLE_SEGMENT:
        return False
    try:
        return zstd.get_frame_size(data) == len(data) and zstd.get_frame_info(data).decompressed_size == length
    except zstd.ZstdError:
        return False


def _open(data: bytes, length: int) -> bytes:
    reader = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG})
    try:
        whole = reader.decompress(data, max_length=length + 1)
    except zstd.ZstdError as error:
        raise BadCompression(f"cannot be decompressed: {error}") from error
    if not reader.eof:
        raise BadCompression(f"holds more than {length} bytes")
    return whole
