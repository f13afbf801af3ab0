"""Whether SQLite's log has lost commits that were durable.

SQLite reads its log up to the first frame that does not fit its checksum and takes what follows for the remains of a power cut: an old state of the
file, which looks sound, and in which sequence numbers would be given a second time. Two witnesses: the log's index (<file>-shm), which counts a
commit after it was synced; and further commits behind the bad frame, of which a power cut leaves one at most. The formats are those of
https://www.sqlite.org/walformat.html.
"""

import sqlite3
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.outbox.database import Damaged

_HEADER_BYTES, _FRAME_BYTES = 32, 24
_INDEX_BYTES = 100
_LITTLE_MAGIC = 0x377F0682


class LostLog(Damaged):
    """The file is older than what was committed."""


@dataclass(frozen=True)
class Log:
    """`frames` were committed and are not all in the database; `commits` are the numbers of frames that end a commit, sound or not."""

    frames: int = 0
    commits: Sequence[int] = ()


def look(path: Path) -> Log:
    """Before anybody opens the database."""
    log, index = _read(path.with_name(path.name + "-wal")), _read(path.with_name(path.name + "-shm"), _INDEX_BYTES)
    is_sound = len(log) >= _HEADER_BYTES and _is_sound(log[:_HEADER_BYTES])
    salts = log[16:24] if is_sound else log[_HEADER_BYTES + 8 : _HEADER_BYTES + 16]
    return Log(_indexed_frames(index, salts if is_sound else None), _commits(log, salts))


def check(db: sqlite3.Connection, seen: Log) -> None:
    """Right after the database was opened. Raises LostLog."""
    frames = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    if frames < seen.frames or sum(1 for commit in seen.commits if commit > frames) > 1:
        raise LostLog(f"its log has lost commits: {max([seen.frames, *seen.commits])} frames were written, {frames} can be read")


def _read(path: Path, size: int = -1) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(size)
    return b""


def _indexed_frames(index: bytes, salts: bytes | None) -> int:
    """`salts` name the log that the index must be of; None: there is none that could be read."""
    if len(index) < _INDEX_BYTES or index[:48] != index[48:96] or salts not in (None, index[32:40]):
        return 0
    frames, copied = struct.unpack_from("=I", index, 16)[0], struct.unpack_from("=I", index, 96)[0]
    return frames if copied < frames else 0


def _commits(log: bytes, salts: bytes) -> list[int]:
    if len(log) < _HEADER_BYTES + _FRAME_BYTES:
        return []
    step = _FRAME_BYTES + struct.unpack_from(">I", log, 8)[0]
    found = []
    for number, start in enumerate(range(_HEADER_BYTES, len(log) - _FRAME_BYTES + 1, step), start=1):
        if log[start + 4 : start + 8] != bytes(4) and log[start + 8 : start + 16] == salts:
            found.append(number)
    return found


def _is_sound(header: bytes) -> bool:
    order = "<" if struct.unpack_from(">I", header)[0] == _LITTLE_MAGIC else ">"
    one = two = 0
    for left, right in struct.iter_unpack(f"{order}II", header[:24]):
        one = (one + left + two) & 0xFFFFFFFF
        two = (two + right + one) & 0xFFFFFFFF
    return struct.unpack_from(">II", header, 24) == (one, two)
