"""Blocks that this device holds already, in bundles and in other unfinished downloads, found by their digest."""

import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_agent.delivery.part import Part
from edge_agent.delivery.ports import Held

log = logging.getLogger(__name__)

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take(part: Part, held: Sequence[Held]) -> None:
    """Copy every lacking block that one of these files holds on the part's grid. A file that cannot be read only gives nothing.
    Raises OSError for the part."""
    wanted: dict[bytes, list[int]] = {}
    for number in part.need:
        wanted.setdefault(part.index.digest(number), []).append(number)
    for source in held:
        for data in _chunks(source.path, part.index.block_bytes):
            for number in wanted.pop(hashlib.sha256(data).digest(), ()):
                part.write(number, data)
            if not wanted:
                return


def has_digest(held: Held) -> bool:
    """Whether the file still has the digest that it was stored with."""
    digest = hashlib.sha256()
    for data in _chunks(held.path, 1 << 18):
        digest.update(data)
    return digest.hexdigest() == held.sha256


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        log.debug("%s gives no block: %s", path, error)
        return
    try:
        start = 0
        while stat.S_ISREG(os.fstat(handle).st_mode) and (data := _read(path, handle, start, size)):
            yield data
            start += size
    finally:
        os.close(handle)


def _read(path: Path, handle: int, start: int, size: int) -> bytes:
    try:
        return os.pread(handle, size, start)
    except OSError as error:
        log.warning("%s cannot be read at %d: %s", path, start, error)
        return b""
