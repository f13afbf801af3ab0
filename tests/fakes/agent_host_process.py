"""`python -m tests.fakes.agent_host_process SMALL LARGE`: activates two bundles one after the other, in a process of its own; writes as JSON by how
many bytes the memory of supervisor and worker is larger with the second, once it serves and at most until then."""

import json
import os
import sys
from pathlib import Path

import numpy as np

from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle


def _held_bytes(pid: int, word: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{word}:"))


def _look(host: InferenceHost) -> dict[str, int]:
    who = {"supervisor": os.getpid(), "worker": host.worker_pids[0]}
    words = {"bytes": "RssAnon", "peak_bytes": "VmHWM"}
    return {f"{name}_{shown}": _held_bytes(pid, word) for name, pid in who.items() for shown, word in words.items()}


def main() -> None:
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    looks = []
    for path in sys.argv[1:]:
        host.activate(Bundle(Path(path)))
        host.infer({"input": np.zeros((1, 2), np.float32)})
        looks.append(_look(host))
    host.close()
    small, large = looks
    sys.stdout.write(json.dumps({name: large[name] - small[name] for name in small}))


if __name__ == "__main__":
    main()
