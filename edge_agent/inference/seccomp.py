"""System calls that a worker has no use for answer "not permitted" (seccomp(2)): new programs and processes, new sockets, signals to others,
namespaces, mounts, kernel modules, other processes' memory. x86-64 and AArch64; elsewhere nothing is done."""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
_IO_URING = (425, 426, 427)
_CLONE3, _PIDFD_SEND_SIGNAL = 435, 424


@dataclass(frozen=True)
class _Calls:
    """Call numbers of one architecture. `denied` begins with execve and socket; of `tgkill` and `prlimit` the first argument decides."""

    audit: int
    seccomp: int
    clone: int
    tgkill: int
    prlimit: int
    denied: tuple[int, ...]


_ARCHITECTURES = {
    "x86_64": _Calls(
        audit=0xC000003E,
        seccomp=317,
        clone=56,
        tgkill=234,
        prlimit=302,
        denied=(
            *(
                59,
                322,
                57,
                58,
                41,
                53,
                42,
                49,
                50,
                43,
                288,
            ),  # execve, execveat, fork, vfork; socket, socketpair, connect, bind, listen, accept
            *(62, 200, 129, 297, 101, 310, 311),  # kill, tkill, sigqueueinfo; ptrace, process_vm_readv and _writev
            *(272, 308, 165, 166, 155, 161),  # unshare, setns, mount, umount2, pivot_root, chroot
            *(321, 298, 323, 248, 249, 250, 175, 313, 176, 246),  # bpf, perf_event_open, userfaultfd, keys, modules, kexec_load
        ),
    ),
    "aarch64": _Calls(
        audit=0xC00000B7,
        seccomp=277,
        clone=220,
        tgkill=131,
        prlimit=261,
        denied=(
            *(221, 281, 198, 199, 203, 200, 201, 202, 242),
            *(129, 130, 138, 240, 117, 270, 271),
            *(97, 268, 40, 39, 41, 51),
            *(280, 241, 282, 217, 218, 219, 105, 273, 106, 104),
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def restrict(libc: ctypes.CDLL) -> bool:
    """Of all threads of this process, for good; returns whether the kernel did it. Needs no_new_privs."""
    calls = _ARCHITECTURES.get(platform.machine())
    if calls is None:
        return False
    steps = b"".join(_program(calls, os.getpid()))
    program = _Program(len(steps) // 8, steps)
    return libc.syscall(calls.seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) == 0


def _program(calls: _Calls, pid: int) -> list[bytes]:
    """Classic BPF; a jump counts the steps to skip when true and when false."""
    steps = [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_EQUAL, calls.audit, true=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _AT_NUMBER),
        _step(_AT_LEAST, _X32, false=1),
        _step(_RETURN, _KILL),
    ]
    for number in (*calls.denied, *_IO_URING, _PIDFD_SEND_SIGNAL):
        steps += [_step(_EQUAL, number, false=1), _refuse(errno.EPERM)]
    steps += [_step(_EQUAL, _CLONE3, false=1), _refuse(errno.ENOSYS)]  # glibc then uses clone, whose flags can be seen
    for number, jump, value in ((calls.clone, _ANY_BIT, _CLONE_THREAD), (calls.tgkill, _EQUAL, pid), (calls.prlimit, _EQUAL, 0)):
        steps += [_step(_EQUAL, number, false=3), _step(_LOAD, _AT_FIRST_ARGUMENT), _step(jump, value, true=1), _refuse(errno.EPERM)]
        steps += [_step(_LOAD, _AT_NUMBER)]
    return [*steps, _step(_RETURN, _ALLOW)]


def _step(code: int, value: int, *, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, true, false, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)
