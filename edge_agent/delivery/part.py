"""The staged file of a download. Only right blocks are written; what it holds after an interruption is what its bytes prove."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.delivery import shuffle
from edge_agent.errors import Reject, Retry
from edge_agent.storage import atomic
from fleet_contract import limits
from fleet_contract.blocks import BlockIndex

_SYNC_BYTES = 4 * limits.MIB
"""A power cut costs at most so much of what had come."""
_SPARE_BYTES = 4 * limits.MIB
"""Left free on the disk for the journal and the outbox."""
_PIECE_BYTES = 256 * limits.KIB
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Part:
    """`need` are the numbers of the blocks that it lacks: a live set, which transports read."""

    def __init__(self, path: Path, file: int, index: BlockIndex, present: set[int]) -> None:
        """Of an open file; see `open_part`."""
        self._path, self._file, self.index = path, file, index
        self.need = {number for number in range(index.count) if number not in present}
        self._lacking_bytes = sum(index.span(number)[1] for number in self.need)
        self._unsynced_bytes = 0

    @property
    def lacking_bytes(self) -> int:
        return self._lacking_bytes

    def write(self, number: int, data: bytes) -> bool:
        """Keep this block if it is lacking and right; whether it was. Raises OSError."""
        if number not in self.need or not self.index.matches(number, data):
            return False
        start, length = self.index.span(number)
        shuffle.write(self._file, data, start)
        self.need.discard(number)
        self._lacking_bytes -= length
        self._unsynced_bytes += length
        if self._unsynced_bytes >= _SYNC_BYTES:
            os.fdatasync(self._file)
            self._unsynced_bytes = 0
        return True

    def finish(self, sha256: str) -> None:
        """Make the whole file durable. Raises OSError; Retry while blocks are lacking;
        Reject (bad-blocks) when the index and the digest, signed together, contradict each other."""
        if self.need:
            raise Retry(f"{len(self.need)} of {self.index.count} blocks did not come", code="deadline")
        os.fsync(self._file)
        atomic.sync_folder(self._path.parent)
        digest = hashlib.sha256()
        for start in range(0, self.index.length, _PIECE_BYTES):
            digest.update(os.pread(self._file, min(_PIECE_BYTES, self.index.length - start), start))
        if digest.hexdigest() != sha256:
            raise Reject(f"every block is as signed, and the whole is not {sha256[:12]}", code="bad-blocks")


@contextmanager
def open_part(path: Path, index: BlockIndex) -> Iterator[Part]:
    """The file at `path`, as long as it will be, with every block that its former content can give in its place.
    Raises OSError, or Retry (disk) with how many bytes are lacking."""
    file = _open(path)
    try:
        size = os.fstat(file).st_size
        _reserve(path, file, index.length)
        present = shuffle.settle(file, size, index)
        os.ftruncate(file, index.length)
        yield Part(path, file, index, present)
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Whatever is not a private regular file of ours gives way: its name may lead to somebody else's."""
    try:
        file = os.open(path, _FLAGS)
    except FileNotFoundError:
        return _create(path)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise
    else:
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
            return file
        os.close(file)
    path.unlink()
    return _create(path)


def _create(path: Path) -> int:
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, atomic.PRIVATE_FILE)


def _reserve(path: Path, file: int, length: int) -> None:
    """A download that cannot be stored is not begun."""
    disk = os.fstatvfs(file)
    lacking = length - os.fstat(file).st_blocks * 512 + _SPARE_BYTES - disk.f_bavail * disk.f_frsize
    if length and lacking > 0:
        raise Retry(f"{path}: the disk lacks {lacking} bytes for a file of {length}", code="disk")
    try:
        if length:
            os.posix_fallocate(file, 0, length)
    except OSError as error:
        if error.errno in _FULL:
            raise Retry(f"{path}: the disk has no room for a file of {length} bytes: {error}", code="disk") from error
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
