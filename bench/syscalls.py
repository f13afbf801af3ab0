"""The state-changing system calls of an update, one by one, by strace's fault injection: a call is not made any more, because the process dies before it.

Only the thread that updates is traced, since it alone writes the journal, the slots, the outbox and the metadata here.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import updating
from bench.updating import Device, Sight, World
from edge_agent.errors import Retry

CALLS = (
    *("write", "pwrite64", "writev", "pwritev2", "fsync", "fdatasync", "sync_file_range", "fallocate", "ftruncate", "truncate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir"),
    *("openat", "creat", "mkdir", "mkdirat", "chmod", "fchmod", "fchmodat", "sendfile", "copy_file_range"),
)
_ATTACH_S = 20.0
_UPDATE_S = 120.0
_LOOK_S = 0.005
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


@dataclass(frozen=True)
class Point:
    """The n-th `call` of the thread, from 1; `what` is the file."""

    call: str
    number: int
    what: str


def obstacle() -> str | None:
    """Why the sweep cannot run here."""
    if shutil.which("strace") is None:
        return "there is no strace (Debian: apt install strace)"
    child = updating.fork(lambda: signal.pause())
    try:
        with _attached(child, "-e", "trace=close", "-o", os.devnull) as tracer:
            return None if tracer.poll() is None else "strace may not attach to a process here (ptrace is denied)"
    except RuntimeError as error:
        return str(error)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def rehearse(state: Path, world: World, is_over: Callable[[Sight], bool]) -> list[Point]:
    """Every state-changing call of one undisturbed update in the state folder, roll-back included, until it `is_over`."""
    log = state.with_name(f"{state.name}.strace")
    status = _traced_update(state, world, is_over, "-y", "-e", f"trace={_known()}", "-o", str(log))
    if status != 0:
        raise RuntimeError(f"the rehearsal ended with status {status}")
    counts: Counter[str] = Counter()
    points = []
    for line in log.read_text().splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        call, rest = found.groups()
        counts[call] += 1
        if str(state) in rest and (call != "openat" or "O_CREAT" in rest):
            points.append(Point(call, counts[call], _file_in(rest, state)))
    return points


def kill_at(state: Path, world: World, point: Point, is_over: Callable[[Sight], bool]) -> bool:
    """Update until that call; whether it was reached."""
    inject = f"inject={point.call}:signal=SIGKILL:when={point.number}"
    status = _traced_update(state, world, is_over, "-e", f"trace={point.call}", "-e", inject, "-o", os.devnull)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _known() -> str:
    """A question mark lets strace pass over what this architecture does not have."""
    return ",".join(f"?{call}" for call in CALLS)


def _traced_update(state: Path, world: World, is_over: Callable[[Sight], bool], *options: str) -> int:
    """The wait status of a device that starts, updates and ends, with strace on its one thread that writes."""
    held, go = os.pipe()
    device = updating.fork(lambda: _update_once(state, world, is_over, held, go))
    os.close(held)
    try:
        with _attached(device, *options):
            os.close(go)
            return os.waitpid(device, 0)[1]
    except BaseException:
        os.kill(device, signal.SIGKILL)
        raise


def _update_once(state: Path, world: World, is_over: Callable[[Sight], bool], held: int, go: int) -> None:
    os.close(go)
    os.read(held, 1)
    end_s = time.monotonic() + _UPDATE_S
    with ExitStack() as closing:
        device = Device(state, world, closing)
        device.start_answering(lambda: _await_verdict(device, end_s))
        device.take_order(b"")
        while not is_over(device.look()):
            if time.monotonic() > end_s:
                raise TimeoutError(f"the update does not end: {device.look()}")
            try:
                again = device.executor.turn()
            except Retry:
                again = False
            if not again:
                time.sleep(_LOOK_S)


def _await_verdict(device: Device, end_s: float) -> None:
    """For an answer that a bundle on trial, one that fails at its first fault, did not give."""
    while device.executor.on_trial and time.monotonic() < end_s:
        time.sleep(_LOOK_S)


class _attached:  # noqa: N801 - used as a context manager only
    """strace on a process, from when it holds it until it lets go."""

    def __init__(self, pid: int, *options: str) -> None:
        self._pid = pid
        self._tracer = subprocess.Popen(["strace", "-qq", "-p", str(pid), *options], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> subprocess.Popen:
        end_s = time.monotonic() + _ATTACH_S
        while not self._is_traced():
            if self._tracer.poll() is not None or time.monotonic() > end_s:
                self.__exit__()
                raise RuntimeError("strace may not attach to a process here (ptrace is denied)")
            time.sleep(0.002)
        return self._tracer

    def __exit__(self, *_) -> None:
        if self._tracer.poll() is None:
            self._tracer.terminate()
        self._tracer.wait()

    def _is_traced(self) -> bool:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return "TracerPid:\t0" not in status


def _file_in(arguments: str, state: Path) -> str:
    """The last path in the call that is of the state folder, relative to it."""
    found = re.findall(re.escape(str(state)) + r'([^>",]*)', arguments)
    return found[-1].strip("/") or "."
