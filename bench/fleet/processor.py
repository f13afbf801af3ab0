"""Which program used how much of the machine: CPU seconds of a process and all its descendants, from /proc."""

import os
from collections import Counter
from pathlib import Path

_PARTS = {
    "mosquitto": "broker",
    "fleet_server.ingest": "ingest",
    "fleet_server.lake": "compactor",
    "fleet_server.mqtt": "broker's watch",
    "hil.virtual_fleet": "devices",
    "postgres": "database",
    "fleet-server": "server",
}


def used(roots: list[int]) -> Counter[str]:
    """CPU seconds by part of the system, of the processes that live below `roots`, themselves included."""
    tick = os.sysconf("SC_CLK_TCK")
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
    return found


def _is_below(pid: int, roots: list[int], parents: dict[int, int]) -> bool:
    while pid and pid not in roots:
        pid = parents.get(pid, 0)
    return pid in roots


def _part(command: str) -> str:
    return next((part for word, part in _PARTS.items() if word in command), "other")
