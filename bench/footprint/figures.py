"""What the kernel says of a process and of everything below it."""

import time
from dataclasses import dataclass
from pathlib import Path

MB = 1e6


@dataclass(frozen=True)
class Figures:
    """Of one moment: `rss_bytes` of the process alone, `pss_bytes` (proc(5): shared pages divided among those who share them) of its workers too;
    `threads` of both."""

    rss_bytes: int
    pss_bytes: int
    threads: int
    workers: int


def look(pid: int) -> Figures:
    """Raises OSError when the process has ended."""
    family = [pid, *children(pid)]
    threads = sum(_status(member, "Threads:") for member in family)
    return Figures(1024 * _status(pid, "VmRSS:"), sum(map(pss_bytes, family)), threads, len(family) - 1)


def pss_bytes(pid: int) -> int:
    return 1024 * _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def children(pid: int) -> list[int]:
    """Of all its threads."""
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]


def wakeups(pid: int) -> dict[str, int]:
    """How often each thread has left the processor to wait, and so been woken, by its number and name, of the process and its workers."""
    return {
        f"{task.name} {(task / 'comm').read_text().strip()}": _field(task / "status", "voluntary_ctxt_switches:")
        for member in (pid, *children(pid))
        for task in Path(f"/proc/{member}/task").iterdir()
    }


def wakeups_per_s(pid: int, time_s: float) -> dict[str, float]:
    """By thread, those that were there all the time; the busiest first."""
    before, begun_s = wakeups(pid), time.monotonic()
    time.sleep(time_s)
    after, spent_s = wakeups(pid), time.monotonic() - begun_s
    rates = {name: (after[name] - count) / spent_s for name, count in before.items() if name in after}
    return dict(sorted(rates.items(), key=lambda item: -item[1]))


def _status(pid: int, name: str) -> int:
    return _field(Path(f"/proc/{pid}/status"), name)


def _field(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))
