"""What the worker gives up before it sees a model (prctl(2), unshare(2), setrlimit(2), landlock(7), seccomp(2)). Linux; elsewhere the limits alone.

Every wall is a best effort, reported by name: a board's kernel may lack one, and the others still stand. RLIMIT_NPROC is not among them: it counts
every thread of the user, other programs' too, and binds no root; that no process is started is seccomp's work.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from edge_agent.inference import landlock, seccomp

NETWORK, WRITING, FILES, CALLS = "network", "writing", "files", "calls"
"""Walls: no network but what is open; no file is written; none is opened at all; no call that a worker has no use for."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_MIB = 1024 * 1024


class Orphaned(Exception):
    """The supervisor died before its death signal was armed."""


def isolate(parent_pid: int) -> list[str]:
    """Die with the parent, gain no privileges, dump no core, leave the network, write no file; returns the walls that the kernel granted.

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
    writing_denied = landlock.restrict(libc, ["/"])
    return [NETWORK] * network_denied + [WRITING] * writing_denied


def limit(memory_mb: int) -> list[str]:
    """Cap the address space at `memory_mb` MiB beyond what is reserved now (an idle runtime maps 150 MiB and uses 50); open no file and start no
    process from here on. Returns the walls that the kernel granted."""
    reserved = _reserved_bytes()
    granted = []
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        granted = [FILES] * landlock.restrict(libc, []) + [CALLS] * seccomp.restrict(libc)
    _cap(resource.RLIMIT_AS, reserved + memory_mb * _MIB)
    _cap(resource.RLIMIT_NOFILE, 0)
    return granted


def _reserved_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 256 * _MIB


def _cap(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
