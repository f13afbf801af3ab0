"""Which program used how much of the machine: CPU seconds of a process and all its descendants, from /proc; and what that says."""

import os
from collections import Counter
from pathlib import Path

_PARTS = {
    "fleet-server up": "server",
    "bench.order_fanout.swarm": "devices",
    "mosquitto": "broker",
    "fleet_server.ingest": "ingest",
    "fleet_server.lake": "compactor",
    "fleet_server.mqtt": "broker's watch",
    "hil.virtual_fleet": "devices",
    "postgres": "database",
}


OTHERS = "other programs"
_FULL = 0.9
"""Of what a part may have."""


def saturated(shares: Counter[str], processors: int) -> str:
    """What could not do more, by the processors that each part used. A part may use one: broker, worker and compactor do nearly all on one thread."""
    if shares.total() >= _FULL * processors:
        return f"all {processors} processors"
    return next((part for part, share in shares.most_common() if share >= _FULL), "no processor")


def used(roots: list[int]) -> Counter[str]:
    """CPU seconds by part of the system, of the processes that live below `roots`, themselves included; OTHERS is the rest of the machine."""
    tick = os.sysconf("SC_CLK_TCK")
    busy = _busy_ticks() / tick
    parents, spent, names = {}, {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            names[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue  # it has just ended
        parents[int(folder.name)] = int(words[1])
        spent[int(folder.name)] = (int(words[11]) + int(words[12])) / tick
    found: Counter[str] = Counter()
    for pid, seconds in spent.items():
        if _is_below(pid, roots, parents):
            found[_part(names.get(pid, ""))] += seconds
    found[OTHERS] = busy - found.total()
    return found


def _busy_ticks() -> int:
    """user, nice, system, irq and softirq of all processors since the start (proc(5))."""
    user, nice, system, _idle, _waiting, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return user + nice + system + irq + softirq


def _is_below(pid: int, roots: list[int], parents: dict[int, int]) -> bool:
    while pid and pid not in roots:
        pid = parents.get(pid, 0)
    return pid in roots


def _part(command: str) -> str:
    return next((part for word, part in _PARTS.items() if word in command), "other")
