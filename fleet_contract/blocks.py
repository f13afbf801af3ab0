"""The block index of a file: which blocks a device still needs, and whether one that came is right."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fleet_contract import limits
from fleet_contract.errors import BadBlocks

_MANY_BLOCKS = 2_048
_DIGEST_BYTES = 32


class BlockIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SHA-256 of each block of a file of `length` bytes; the last block may be short. Travels in the signed target's `custom`."""

    length: int
    block_bytes: int
    digests: bytes

    def __post_init__(self) -> None:
        if not limits.MIN_BLOCK_BYTES <= self.block_bytes <= limits.MAX_BLOCK_BYTES:
            raise BadBlocks(f"block_bytes {self.block_bytes} is out of range", field="block_bytes", limit=limits.MAX_BLOCK_BYTES)
        if not 0 <= self.length <= limits.MAX_BUNDLE_BYTES:
            raise BadBlocks(f"length {self.length} is out of range", field="length", limit=limits.MAX_BUNDLE_BYTES)
        if len(self.digests) != _DIGEST_BYTES * self.count:
            raise BadBlocks(f"{len(self.digests)} bytes of digests for {self.count} blocks", field="digests")

    @property
    def count(self) -> int:
        return -(-self.length // self.block_bytes)

    def digest(self, index: int) -> bytes:
        return self.digests[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES]

    def span(self, index: int) -> tuple[int, int]:
        """Byte offset and length of block `index`. Raises BadBlocks when there is no such block."""
        if not 0 <= index < self.count:
            raise BadBlocks(f"block {index} of {self.count}", field="index", limit=self.count)
        start = index * self.block_bytes
        return start, min(self.block_bytes, self.length - start)

    def matches(self, index: int, data: bytes) -> bool:
        return len(data) == self.span(index)[1] and hashlib.sha256(data).digest() == self.digest(index)


def block_bytes_for(length: int) -> int:
    """The block size of a file: the smallest power of two in the limits that keeps the index near 2,048 blocks."""
    size = limits.MIN_BLOCK_BYTES
    while size < limits.MAX_BLOCK_BYTES and length > size * _MANY_BLOCKS:
        size *= 2
    return size


def index_of(data: bytes | memoryview, block_bytes: int | None = None) -> BlockIndex:
    size = block_bytes or block_bytes_for(len(data))
    digests = b"".join(hashlib.sha256(data[at : at + size]).digest() for at in range(0, len(data), size))
    return BlockIndex(length=len(data), block_bytes=size, digests=digests)


def index_of_file(path: Path) -> BlockIndex:
    """As `index_of`, with one block in memory at a time. Raises OSError."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        size = block_bytes_for(length)
        digests = b"".join(hashlib.sha256(block).digest() for block in iter(lambda: file.read(size), b""))
    return BlockIndex(length=length, block_bytes=size, digests=digests)


def to_bitmap(indices: Iterable[int], count: int) -> bytes:
    """Little-endian bitmap of `count` bits with the given block numbers set."""
    bits = bytearray(-(-count // 8))
    for index in indices:
        if not 0 <= index < count:
            raise BadBlocks(f"block {index} of {count}", field="need", limit=count)
        bits[index // 8] |= 1 << (index % 8)
    return bytes(bits)


def from_bitmap(bitmap: bytes) -> list[int]:
    return [8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1]


def to_custom(index: BlockIndex) -> dict:
    """The JSON form inside a TUF target's `custom` field."""
    return {"edgefleet-blocks": msgspec.to_builtins(index)}


def from_custom(custom: object) -> BlockIndex:
    """Raises BadBlocks when the signed target carries no usable index."""
    try:
        return msgspec.convert(custom["edgefleet-blocks"], BlockIndex)  # type: ignore[index]
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise BadBlocks(f"the signed target carries no usable block index: {error}", field="custom") from error
