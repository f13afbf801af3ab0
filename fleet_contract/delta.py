"""A file as a difference from another: stretches of the base, taken as they are or with a difference added byte by byte, and new bytes.

A delta is a header (magic, version, SHA-256 of base and result, length of the result; little-endian) and LZMA streams (.lzma, "alone"), which together
hold the operations in the result's order: `<III` kind, length, place in the base, then the operation's data, filled up to a multiple of four bytes so
that words stay in place for the compressor. One reading makes the result; nothing is held but a piece and the decompressor.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fleet_contract import limits
from fleet_contract.errors import BadDelta, UnknownVersion

VERSION = 1
_MAGIC = b"EDLT"
_HEADER = struct.Struct("<4sB3x32s32sQ")
_OPERATION = struct.Struct("<III")
_ALIGN = 4
_PIECE_BYTES = 64 * limits.KIB
_WINDOW_BYTES = 1 * limits.MIB


class Kind(IntEnum):
    """COPY and ADD take bytes of the base, ADD with its data added modulo 256; INSERT's data is the result."""

    COPY = 0
    ADD = 1
    INSERT = 2


@dataclass(frozen=True)
class Header:
    """Digests in hexadecimal; `length` in bytes is that of the result."""

    base: str
    result: str
    length: int

    def __bytes__(self) -> bytes:
        return _HEADER.pack(_MAGIC, VERSION, bytes.fromhex(self.base), bytes.fromhex(self.result), self.length)


@dataclass(frozen=True)
class Coding:
    """LZMA's: how many bits of the byte before (`before`) and of the place (`place`) a byte is foretold from. Together at most 4."""

    before: int
    place: int


def operation(kind: Kind, length: int, start: int = 0, data: bytes = b"") -> bytes:
    """One operation, as `compress` takes it; `data` has `length` bytes, or none for COPY."""
    return _OPERATION.pack(kind, length, start) + data + bytes(-len(data) % _ALIGN)


def compress(operations: bytes, coding: Coding) -> bytes:
    """One stream. A delta is its header and any number of streams."""
    options = {"lc": coding.before, "lp": coding.place, "pb": coding.place, "dict_size": _WINDOW_BYTES}
    return lzma.compress(operations, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, **options}])


def read_header(delta: Path | bytes) -> Header:
    """Raises BadDelta, UnknownVersion or OSError."""
    with io.BytesIO(delta) if isinstance(delta, bytes) else delta.open("rb") as file:
        return _read_header(file)


def apply(base: Path, delta: Path, out: BinaryIO, max_bytes: int) -> Header:
    """Write the result to `out`, which has the digest and length of the header returned; compare these with what was wanted.

    Whatever the delta holds, no more than `max_bytes` are written, nothing outside the base is read, and memory stays within a few MiB beside
    limits.MAX_DELTA_MEMORY_BYTES. A base with other bytes gives another digest, which is an error. After an error `out` holds rubbish.
    Raises BadDelta, UnknownVersion or OSError.
    """
    with base.open("rb") as source, delta.open("rb") as file:
        header = _read_header(file)
        if header.length > max_bytes:
            raise BadDelta(f"a delta of a file of {header.length} bytes, at most {max_bytes}", field="length", limit=max_bytes)
        digest = hashlib.sha256()
        for piece in _pieces(_Operations(file), source, header.length):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != header.result:
        raise BadDelta("the delta does not make what it says from this base", field="result")
    return header


def _read_header(file: BinaryIO) -> Header:
    raw = file.read(_HEADER.size)
    if len(raw) != _HEADER.size or raw[:4] != _MAGIC:
        raise BadDelta("this is no delta", field="header")
    _, version, base, result, length = _HEADER.unpack(raw)
    if version != VERSION:
        raise UnknownVersion(f"delta version {version} is not {VERSION}: upgrade the older side", field="version", limit=VERSION)
    return Header(base.hex(), result.hex(), length)


def _pieces(operations: _Operations, source: BinaryIO, length: int) -> Iterator[bytes]:
    """The result in order, `length` bytes in all."""
    size, left = os.fstat(source.fileno()).st_size, length
    for _ in range(limits.MAX_DELTA_OPERATIONS):
        if not left:
            break
        kind, count, start = operations.next()
        if not 1 <= count <= left:
            raise BadDelta(f"an operation of {count} bytes where {left} are missing", field="operation", limit=left)
        if kind != Kind.INSERT and start + count > size:
            raise BadDelta(f"an operation reads the base up to byte {start + count} of {size}", field="operation", limit=size)
        yield from _perform(operations, kind, count, start, source)
        left -= count
    if left or not operations.at_end():
        raise BadDelta(
            "more operations than a delta may have, or than make the result", field="operation", limit=limits.MAX_DELTA_OPERATIONS
        )


def _perform(operations: _Operations, kind: Kind, count: int, start: int, source: BinaryIO) -> Iterator[bytes]:
    for at in range(start, start + count, _PIECE_BYTES):
        wanted = min(_PIECE_BYTES, start + count - at)
        held = b"" if kind == Kind.INSERT else os.pread(source.fileno(), wanted, at)
        if kind != Kind.INSERT and len(held) != wanted:
            raise BadDelta("the base became shorter", field="base")
        data = b"" if kind == Kind.COPY else operations.read(wanted)
        yield (np.frombuffer(held, np.uint8) + np.frombuffer(data, np.uint8)).tobytes() if kind == Kind.ADD else held or data
    if kind != Kind.COPY:
        operations.read(-count % _ALIGN)


class _Operations:
    """What the streams hold, one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder: lzma.LZMADecompressor | None = None
        self._waiting = b""

    def next(self) -> tuple[Kind, int, int]:
        kind, length, start = _OPERATION.unpack(self.read(_OPERATION.size))
        try:
            return Kind(kind), length, start
        except ValueError:
            raise BadDelta(f"an operation of unknown kind {kind}", field="operation") from None

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        parts = []
        while size:
            part = self._some(size)
            if part is None:
                raise BadDelta("the delta ends too early", field="operation")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def at_end(self) -> bool:
        while (part := self._some(1)) == b"":
            pass
        return part is None

    def _some(self, most: int) -> bytes | None:
        """Up to `most` bytes, None after the last stream. Each call takes something in, gives something out, or ends a stream."""
        if self._decoder is None or self._decoder.eof:
            self._waiting = self._decoder.unused_data if self._decoder else b""
            self._waiting = self._waiting or self._file.read(_PIECE_BYTES)
            if not self._waiting:
                return None
            self._decoder = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=limits.MAX_DELTA_MEMORY_BYTES)
        elif self._decoder.needs_input:
            self._waiting = self._file.read(_PIECE_BYTES)
            if not self._waiting:
                raise BadDelta("a stream ends too early", field="operation")
        given, self._waiting = self._waiting, b""
        try:
            return self._decoder.decompress(given, most)
        except lzma.LZMAError as error:
            raise BadDelta(f"a stream that cannot be decompressed: {error}", field="operation") from error
