"""The one form of ZIP that a bundle may have: stored, plain names, fixed times, bodies on block boundaries, nothing before, between or after.

The reader makes every byte that is not a body once more and compares, so no two archives hold the same entries and nothing hides in a header.
It holds one piece of one body at a time.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_contract import blocks, content, limits, names
from fleet_contract.content import Content
from fleet_contract.errors import BadBundle, ContractError

_PAD_ID = 0xD935
"""The extra field that zipalign uses for padding."""
_LOCAL, _CENTRAL, _END = (
    struct.Struct(fields) for fields in ("<4sHHHHHIIIHH", "<4sHHHHHHIIIHHHHHII", "<4sHHHHIIH")
)  # APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION = 20
_MADE_BY = 3 << 8 | _VERSION
"""Unix, so that the attributes mean a mode."""
_DATE = 1 << 5 | 1
"""1 January 1980, the first that there is."""
_ATTRIBUTES = 0o100644 << 16


@dataclass(frozen=True)
class _Entry:
    """`at` is where its local header begins, `body` where its bytes do."""

    name: str
    at: int
    body: int
    length: int


def write(bodies: Mapping[str, bytes], align: int) -> bytes:
    """The archive of these entries, in this order; each body begins on a multiple of `align`."""
    out, directory = bytearray(), bytearray()
    for name, data in bodies.items():
        crc = zlib.crc32(data)
        directory += _central(name, len(data), crc, len(out))
        out += _local(name, len(data), crc, len(out), align)
        out += data
    return bytes(out + directory + _end(len(bodies), len(directory), len(out)))


def spans(source: bytes | Path | Content, first: str) -> dict[str, tuple[int, int]]:
    """Offset and length of each entry's bytes, once the archive is proven canonical with `first` as its first entry. Raises BadBundle or OSError."""
    data = content.of(source)
    entries = _walk(data)
    align = blocks.block_bytes_for(sum(entry.length for entry in entries))
    if not entries or entries[0].name != first or not _is_canonical(data, entries, align):
        raise BadBundle("the archive is not in canonical form", field="archive")
    return {entry.name: (entry.body, entry.length) for entry in entries}


def _walk(data: Content) -> list[_Entry]:
    """From header to header, believing each just enough to find the next."""
    entries: list[_Entry] = []
    at = 0
    while (header := data.read(at, _LOCAL.size))[:4] == _LOCAL_MARK and len(header) == _LOCAL.size:
        *_, length, name_length, extra_length = _LOCAL.unpack(header)
        body = at + _LOCAL.size + name_length + extra_length
        if body + length > data.length or len(entries) == limits.MAX_BUNDLE_ENTRIES:
            raise BadBundle("an entry ends after the archive, or there are too many", field="archive", limit=limits.MAX_BUNDLE_ENTRIES)
        entries.append(_Entry(_name(data.read(at + _LOCAL.size, name_length)), at, body, length))
        at = body + length
    if len({entry.name for entry in entries}) != len(entries):
        raise BadBundle("the archive names an entry twice", field="archive")
    return entries


def _name(raw: bytes) -> str:
    try:
        return names.path(raw.decode("ascii"), "archive")
    except (UnicodeDecodeError, ContractError) as error:
        raise BadBundle(f"an entry is misnamed: {error}", field="archive") from error


def _is_canonical(data: Content, entries: list[_Entry], align: int) -> bool:
    directory, end = bytearray(), 0
    for entry in entries:
        crc = 0
        for piece in content.pieces(data, entry.body, entry.length):
            crc = zlib.crc32(piece, crc)
        header = _local(entry.name, entry.length, crc, entry.at, align)
        if data.read(entry.at, entry.body - entry.at) != header:
            return False
        directory += _central(entry.name, entry.length, crc, entry.at)
        end = entry.body + entry.length
    rest = bytes(directory) + _end(len(entries), len(directory), end)
    return data.length == end + len(rest) and data.read(end, len(rest)) == rest


def _local(name: str, length: int, crc: int, at: int, align: int) -> bytes:
    raw = name.encode()
    pad = -(at + _LOCAL.size + len(raw) + 4) % align
    fixed = _LOCAL.pack(_LOCAL_MARK, _VERSION, 0, 0, 0, _DATE, crc, length, length, len(raw), 4 + pad)
    return fixed + raw + struct.pack("<HH", _PAD_ID, pad) + bytes(pad)


def _central(name: str, length: int, crc: int, at: int) -> bytes:
    raw = name.encode()
    return (
        _CENTRAL.pack(_CENTRAL_MARK, _MADE_BY, _VERSION, 0, 0, 0, _DATE, crc, length, length, len(raw), 0, 0, 0, 0, _ATTRIBUTES, at) + raw
    )


def _end(count: int, directory_length: int, at: int) -> bytes:
    return _END.pack(_END_MARK, 0, 0, count, count, directory_length, at, 0)
