"""Files and TCP taken from a thread, and from those it starts, for good (landlock(7)), by number: glibc has no names for these calls."""

import ctypes
import os
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_READING = 0b1101
"""Execute, read a file, read a folder."""
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files the kernel's version knows; the newest stands for later ones."""
_TCP_VERSION, _SCOPE_VERSION = 4, 6
_TCP = _SCOPES = 0b11
"""Bind and connect; abstract sockets and signals to processes outside."""


def version(libc: ctypes.CDLL) -> int:
    """0 where the kernel has none, or has it switched off."""
    return max(0, libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION))


def restrict(libc: ctypes.CDLL, readable: Sequence[str]) -> bool:
    """Nothing may be written, and nothing opened but to read below these folders; no TCP, no signals outward where the kernel knows them.
    Returns whether the kernel did it. Needs no_new_privs."""
    known = version(libc)
    if not known:
        return False
    handled = (1 << _FS_RIGHTS[min(known, max(_FS_RIGHTS))]) - 1
    rules = struct.pack("<QQQ", handled, _TCP, _SCOPES)[: 8 + 8 * (known >= _TCP_VERSION) + 8 * (known >= _SCOPE_VERSION)]
    ruleset = libc.syscall(_CREATE_RULESET, rules, len(rules), 0)
    if ruleset < 0:
        return False
    try:
        allowed = all(_allow(libc, ruleset, folder) for folder in readable)
        return allowed and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, folder: str) -> bool:
    handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        return libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", _READING, handle), 0) == 0
    finally:
        os.close(handle)
