"""How much memory one more process may take: what the system calls available (proc(5)) and what the control groups leave (cgroups(7), both versions)."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fleet_contract import limits

_WORKER_BYTES = 48 * limits.MIB
_COPIES = 3
"""While an engine opens a model: the file, the engine's own copy of it, and what it parses from that. Measured with ONNX Runtime 1.31."""
_FILES = {"": ("memory.max", "memory.current", ""), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")}
"""By the controller's name in /proc/self/cgroup: where limit and usage stand, and how the subtree's lines of memory.stat begin."""


def needed_bytes(model_bytes: int) -> int:
    """What a worker may take at its peak, beside the pages that it shares with others."""
    return _WORKER_BYTES + _COPIES * model_bytes


def available_bytes(root: Path) -> int | None:
    """What may still be taken before something is swapped out or killed; None where the system below `root` does not say."""
    free = [found for found in (_system(root), *_groups(root)) if found is not None]
    return max(0, min(free)) if free else None


def _system(root: Path) -> int | None:
    kib = _table(root / "proc" / "meminfo").get("MemAvailable:")
    return None if kib is None else kib * limits.KIB


def _groups(root: Path) -> Iterator[int | None]:
    """Of every group around this process that has a limit."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in {*controllers.split(",")} & {*_FILES}:
            mount = root / "sys" / "fs" / "cgroup" / name
            inside = PurePosixPath(path.lstrip("/"))
            yield from (_group(mount / folder, *_FILES[name]) for folder in (inside, *inside.parents))


def _group(folder: Path, limit: str, usage: str, subtree: str) -> int | None:
    most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
    if not (most.isdecimal() and used.isdecimal()):
        return None
    stat = _table(folder / "memory.stat")
    cached = stat.get(f"{subtree}inactive_file", 0) + stat.get(f"{subtree}active_file", 0) // 2
    return int(most) - int(used) + cached


def _table(file: Path) -> dict[str, int]:
    """The first number after each word that begins a line."""
    rows = [line.split() for line in _text(file).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
