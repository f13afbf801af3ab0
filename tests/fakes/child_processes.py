"""Finding the processes that a program keeps beside itself."""

import os
from pathlib import Path


def running(module: str, home: Path) -> frozenset[int]:
    """The ids of those that run this module of ours with this home."""
    wanted, place = module.encode(), os.fsencode(home)
    return frozenset(pid for pid, words in _commands() if wanted in words and place in words)


def _commands():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
