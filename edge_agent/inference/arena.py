"""Memory that a supervisor shares with one worker (memfd_create(2)), for tensors that would clog the socket. Pages come when they are first written.

Its size is sealed: were a page to go, the supervisor would end with SIGBUS.
"""

import fcntl
import mmap
import os

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class NoRoom(ValueError):
    """More than is shared."""


class Arena:
    """One side's view of it. What the other side wrote may change while it is read: copy it, then check the copy."""

    def __init__(self, fd: int) -> None:
        """Maps it whole, and takes the descriptor over. A worker does this before its walls stand, and then pays for its size no more."""
        self.fd = fd
        self.view = memoryview(mmap.mmap(fd, 0))

    @classmethod
    def create(cls, size_bytes: int) -> "Arena":
        fd = os.memfd_create("edge-agent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return cls(fd)

    def part(self, start: int, length: int) -> memoryview:
        """Raises NoRoom where it does not lie within."""
        if start + length > len(self.view):
            raise NoRoom(f"{length} bytes at {start} do not lie within the {len(self.view)} that are shared")
        return self.view[start : start + length]

    def close(self) -> None:
        """Of the descriptor; the memory goes with the last tensor in it."""
        self.view = memoryview(b"")
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
