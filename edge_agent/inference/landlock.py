"""Files and TCP taken from a thread, and from those it starts, for good (landlock(7)), by number: glibc has no names for these calls."""

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_READING = 0b1101
"""Execute, read a file, read a folder."""
_USING = _READING | 1 << 1 | 1 << 14 | 1 << 15
"""Write, truncate and control a device as well."""
_OF_FILES = 1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""What may be said of a file; the rest is of folders."""
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files the kernel's version knows; the newest stands for later ones."""
_TCP_VERSION, _SCOPE_VERSION = 4, 6
_TCP = _SCOPES = 0b11
"""Bind and connect; abstract sockets and signals to processes outside."""


def version(libc: ctypes.CDLL) -> int:
    """0 where the kernel has none, or has it switched off."""
    return max(0, libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION))


def restrict(libc: ctypes.CDLL, readable: Sequence[str], usable: Sequence[str] = ()) -> bool:
    """Nothing may be opened but to read at or below `readable`, and to read, write and control at or below `usable`; no TCP, no signals outward where
    the kernel knows them. A path that is not there opens nothing. Returns whether the kernel did it. Needs no_new_privs."""
    known = version(libc)
    if not known:
        return False
    handled = (1 << _FS_RIGHTS[min(known, max(_FS_RIGHTS))]) - 1
    rules = struct.pack("<QQQ", handled, _TCP, _SCOPES)[: 8 + 8 * (known >= _TCP_VERSION) + 8 * (known >= _SCOPE_VERSION)]
    ruleset = libc.syscall(_CREATE_RULESET, rules, len(rules), 0)
    if ruleset < 0:
        return False
    try:
        rights = [(path, _READING) for path in readable] + [(path, _USING) for path in usable]
        allowed = all(_allow(libc, ruleset, path, right & handled) for path, right in rights if Path(path).exists())
        return allowed and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> bool:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        granted = rights if stat.S_ISDIR(os.fstat(handle).st_mode) else rights & _OF_FILES
        return libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", granted, handle), 0) == 0
    finally:
        os.close(handle)
