"""The first bytes of the outbox's file, most of which never change: where one of them is wrong, SQLite reads nothing of it, or never writes to it."""

from contextlib import suppress
from pathlib import Path

from edge_agent.outbox.database import PAGE_BYTES, Damaged

_NAME = b"SQLite format 3\x00"
_CONSTANT = bytes((0, 64, 32, 32))
_SIZES = [1 << power for power in range(9, 16)]
"""See https://www.sqlite.org/fileformat2.html: the name, the page's size, how it is written and read (1, or 2: by a log), then what never changes."""
_BYTES = 24
_MOST = 4
"""Where more of them are wrong it is another file."""


def check(path: Path) -> None:
    """Raises Damaged, OSError."""
    with suppress(FileNotFoundError):
        found = _read(path)
        if found != _restored(found):
            raise Damaged("its header is wrong")


def restore(path: Path) -> None:
    """Nobody has it open. Raises OSError."""
    found = _read(path)
    if (restored := _restored(found)) != found:
        with path.open("r+b") as file:
            file.write(restored)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BYTES)


def _restored(found: bytes) -> bytes:
    """As it was, if a few bytes at most are not."""
    if len(found) < _BYTES:
        return found
    size = found[16:18] if int.from_bytes(found[16:18], "big") in _SIZES else PAGE_BYTES.to_bytes(2, "big")
    ways = found[18:20] if found[18:20] in (b"\1\1", b"\2\2") else b"\2\2"
    whole = _NAME + size + ways + _CONSTANT
    wrong = sum(one != other for one, other in zip(found, whole, strict=True))
    return whole if wrong <= _MOST else found
