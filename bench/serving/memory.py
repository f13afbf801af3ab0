"""What a process and all that it started hold, shared pages divided among those who share them (PSS, proc(5))."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

_KIB = 1024


def held_bytes(pid: int) -> int:
    """A process that ends meanwhile holds nothing."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        children[_field(folder / "status", "PPid:")].append(int(folder.name))
    return _KIB * sum(_field(Path(f"/proc/{member}/smaps_rollup"), "Pss:") for member in _family(pid, children))


def _family(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children[pid]:
        yield from _family(child, children)


def _field(path: Path, name: str) -> int:
    try:
        return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0
