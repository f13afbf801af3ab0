"""A file that only takes room, so that a disk which others have filled can still be written to when it has to."""

import os
from pathlib import Path

from edge_agent.storage import atomic


class Ballast:
    def __init__(self, path: Path, size: int) -> None:
        self._path, self._bytes = path, size
        self.is_laid = False

    def lay(self) -> bool:
        """Take the room, if the disk has it; whether it did. One of another size is laid anew."""
        if not self._path.exists() and not self.has_room():
            return False
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, atomic.PRIVATE_FILE)
            try:
                os.ftruncate(handle, self._bytes)
                if self._bytes:
                    os.posix_fallocate(handle, 0, self._bytes)
                self.is_laid = True
            finally:
                os.close(handle)
        except OSError:
            self.release()
        return self.is_laid

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self.is_laid = False

    def has_room(self) -> bool:
        """Whether the disk has as much left, beside what lies there."""
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= self._bytes
