"""What the worker gives up before it sees a model (prctl(2), unshare(2), setrlimit(2), landlock(7), seccomp(2)). Linux; elsewhere the limits alone.

Every wall is a best effort, reported by name: a board's kernel may lack one, and the others still stand. RLIMIT_NPROC is not among them: it counts
every thread of the user, other programs' too, and binds no root; that no process is started is seccomp's work.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.inference import landlock, seccomp

NETWORK, WRITING, FILES, DEVICES, CALLS = "network", "writing", "files", "devices", "calls"
"""Walls: no network but what is open; no file is written but a backend's device; none is opened at all, or, which is weaker, none but what the
backend needs; no call that a worker has no use for."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_MIB = 1024 * 1024
_DEV = "/dev/"
_DEVICE_FILES = 256
"""That a driver may have open at once."""
_SIZE, _DATA = 0, 5
"""Columns of /proc/self/statm (proc(5)), in pages."""


class Orphaned(Exception):
    """The supervisor died before its death signal was armed."""


def isolate(parent_pid: int, devices: Sequence[str] = ()) -> list[str]:
    """Die with the parent, gain no privileges, dump no core, leave the network, write no file but those of `devices` below /dev; returns the walls
    that the kernel granted.

    Must run before the first thread starts: a user namespace is refused to a process with threads, and Landlock binds one thread and those
    that it starts. Raises Orphaned.
    """
    if not sys.platform.startswith("linux"):
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    network_denied = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after unshare: new credentials clear it
    if os.getppid() != parent_pid:
        raise Orphaned
    _cap(resource.RLIMIT_CORE, 0)
    _cap(resource.RLIMIT_FSIZE, 0)
    writing_denied = landlock.restrict(libc, ["/"], _usable(devices))
    return [NETWORK] * network_denied + [WRITING] * writing_denied


def limit(memory_mb: int, devices: Sequence[str] = ()) -> list[str]:
    """Cap the memory at `memory_mb` MiB beyond what is reserved now (an idle runtime maps 150 MiB and uses 50); open no file but `devices` - to read
    and write below /dev, to read elsewhere - and start no process from here on. Returns the walls that the kernel granted.

    What is capped is the address space; with devices, whose drivers map gigabytes that are not memory of ours, private writable memory.
    """
    kind, column = (resource.RLIMIT_DATA, _DATA) if devices else (resource.RLIMIT_AS, _SIZE)
    reserved = _reserved_bytes(column)
    granted = []
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        readable = [path for path in devices if not path.startswith(_DEV)]
        granted = [DEVICES if devices else FILES] * landlock.restrict(libc, readable, _usable(devices)) + [CALLS] * seccomp.restrict(libc)
    _cap(kind, reserved + memory_mb * _MIB)
    _cap(resource.RLIMIT_NOFILE, _DEVICE_FILES if devices else 0)
    return granted


def _usable(devices: Sequence[str]) -> list[str]:
    return [path for path in devices if path.startswith(_DEV)]


def _reserved_bytes(column: int) -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[column]) * resource.getpagesize() if statm.exists() else 256 * _MIB


def _cap(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
