"""Runs a job on this machine, in a process of its own: whatever it imports, leaks or breaks stays out of the server.

All that is known of it is in its folder, so that a restarted server finds it again: process.json (its id and start), progress.jsonl (its
stdout), log.txt (its stderr) and at the end result.json.
"""

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from fleet_contract.errors import ContractError
from fleet_contract.job import RESULT, JobResult, Progress, read_result
from fleet_server import storage
from fleet_server.errors import Unavailable
from fleet_server.ports import JobLook

PROCESS = "process.json"
PROGRESS = "progress.jsonl"
LOG = "log.txt"
TIMEOUT_S = 3600
_TAIL_BYTES = 8192
_END_GRACE_S = 5
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Process(msgspec.Struct, frozen=True):
    """`born` tells this process from a later one that was given its id."""

    pid: int
    born: str
    started_at: datetime


class LocalRunner:
    """A ports.JobRunner. `threads` bounds the numeric libraries of the job, `timeout_s` its whole time."""

    def __init__(self, python: str = sys.executable, *, threads: int = 1, timeout_s: float = TIMEOUT_S) -> None:
        self._python = python
        self._threads = threads
        self._timeout = timedelta(seconds=timeout_s)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, folder: Path, now: datetime) -> None:
        for name in (PROCESS, PROGRESS, LOG, RESULT):
            (folder / name).unlink(missing_ok=True)
        environment = os.environ | {name: str(self._threads) for name in _THREAD_VARIABLES}
        command = [self._python, "-m", "model_tools", "--debug", "job", str(folder)]
        try:
            with (folder / PROGRESS).open("wb") as out, (folder / LOG).open("wb") as log:
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment, start_new_session=True)
        except OSError as error:
            raise Unavailable(f"the job's process could not be started: {error}") from error
        self._children[child.pid] = child
        process = _Process(child.pid, _born(child.pid) or "", now)
        storage.write_atomic(folder / PROCESS, msgspec.json.encode(process))

    def look(self, folder: Path, now: datetime) -> JobLook:
        process = _read_process(folder)
        progress = _newest_progress(folder)
        if process is not None and self._is_alive(process):
            if now - process.started_at <= self._timeout:
                return JobLook(True, progress)
            self._end(process)
            return JobLook(False, progress, failure=f"it ran longer than {self._timeout.total_seconds():.0f} s and was ended")
        return _ended(folder, progress)

    def close(self) -> None:
        """End the jobs that this runner started; a later server tries them again."""
        for child in [*self._children.values()]:
            if child.poll() is None:
                _terminate(child.pid)
            self._reap(child)

    def _is_alive(self, process: _Process) -> bool:
        child = self._children.get(process.pid)
        if child is not None:
            if child.poll() is None:
                return True
            del self._children[process.pid]
            return False
        return process.born != "" and _born(process.pid) == process.born

    def _end(self, process: _Process) -> None:
        _terminate(process.pid)
        child = self._children.get(process.pid)
        if child is not None:
            self._reap(child)

    def _reap(self, child: subprocess.Popen[bytes]) -> None:
        try:
            child.wait(_END_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._children.pop(child.pid, None)


def _ended(folder: Path, progress: Progress | None) -> JobLook:
    if not (folder / RESULT).exists():
        return JobLook(False, progress, failure=f"it ended without a result: {_last_line(folder / LOG)}")
    try:
        result: JobResult = read_result(folder)
    except ContractError as error:
        return JobLook(False, progress, failure=f"its result cannot be read: {error}")
    return JobLook(False, progress, result=result)


def _terminate(pid: int) -> None:
    """The job leads a session of its own: its workers end with it."""
    try:
        os.killpg(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return


def _born(pid: int) -> str | None:
    """The process's start in clock ticks since boot (field 22 of /proc/<pid>/stat); None when it is gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _read_process(folder: Path) -> _Process | None:
    try:
        return msgspec.json.decode((folder / PROCESS).read_bytes(), type=_Process)
    except (OSError, ValueError):
        return None


def _newest_progress(folder: Path) -> Progress | None:
    """The last whole line that is progress; libraries may print others between."""
    for line in reversed(_tail(folder / PROGRESS).split(b"\n")[:-1]):
        try:
            progress = msgspec.json.decode(line, type=Progress)
        except ValueError:
            continue
        return progress if 0 <= progress.share <= 1 else None
    return None


def _last_line(path: Path) -> str:
    lines = _tail(path).decode("utf-8", "replace").replace("\0", "").strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
