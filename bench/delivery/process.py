"""A child process that speaks lines, and what the kernel counted for a process."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TypeVar

import msgspec

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOP_S = 20.0

T = TypeVar("T")


class ChildFailed(RuntimeError):
    """It ended, or said nothing in time."""


class Child:
    """`python -m MODULE ARGUMENT...`; ends when the `with` block does."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._name = module
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def tell(self) -> None:
        """One line: go on."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self, kind: type[T], timeout_s: float) -> T:
        """Its next line. Raises ChildFailed."""
        watch = threading.Timer(timeout_s, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise ChildFailed(f"{self._name} ended or said nothing for {timeout_s} s")
        return msgspec.json.decode(line, type=kind)


def cpu_s(pid: int) -> float:
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def peak_bytes(pid: int) -> int:
    """The most resident memory so far."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
