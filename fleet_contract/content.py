"""Bytes that are read piece by piece, in memory or in a file: what is checked need not fit in memory."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fleet_contract import limits
from fleet_contract.errors import BadBundle

_PIECE_BYTES = 256 * limits.KIB


class Content(Protocol):
    """Nothing says that two readings of one place agree: a file may be edited in between. Who needs that compares digests."""

    length: int

    def read(self, start: int, length: int) -> bytes:
        """Fewer bytes at the end. Raises OSError."""


class Memory:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def read(self, start: int, length: int) -> bytes:
        return self._data[start : start + length]


class Stored:
    """A regular file, opened anew for each reading, so that nothing has to be closed. It is not mapped: cut short, a mapped file kills its reader."""

    def __init__(self, path: Path, *, follow: bool = True) -> None:
        """`follow` is whether `path` may be a symbolic link. Raises OSError or BadBundle (no regular file, larger than any bundle)."""
        self._path = path
        self._flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        handle = os.open(path, self._flags)
        try:
            found = os.fstat(handle)
        finally:
            os.close(handle)
        if not stat.S_ISREG(found.st_mode):
            raise BadBundle(f"{path} is not a regular file", field="archive")
        if found.st_size > limits.MAX_BUNDLE_BYTES:
            raise BadBundle(
                f"bundle of {found.st_size} bytes, at most {limits.MAX_BUNDLE_BYTES}", field="length", limit=limits.MAX_BUNDLE_BYTES
            )
        self.length = found.st_size

    def read(self, start: int, length: int) -> bytes:
        handle = os.open(self._path, self._flags)
        try:
            return os.pread(handle, length, start)
        finally:
            os.close(handle)


def of(source: bytes | Path | Content) -> Content:
    """Raises OSError or BadBundle."""
    if isinstance(source, bytes):
        return Memory(source)
    return Stored(source) if isinstance(source, Path) else source


def pieces(content: Content, start: int, length: int) -> Iterator[bytes]:
    """These bytes in order, a little at a time; fewer if there are not so many."""
    end = min(start + length, content.length)
    while start < end and (data := content.read(start, min(_PIECE_BYTES, end - start))):
        yield data
        start += len(data)
