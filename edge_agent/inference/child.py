"""The supervisor's side of one worker: starts it, talks to it under deadlines, and ends it by its process id."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.errors import Reject
from edge_agent.inference import protocol
from edge_agent.inference.plan import Plan
from edge_agent.ports import Clock, Tensors
from firmware_profiles.catalog import Backend

_END_S = 2.0


@dataclass(frozen=True)
class Deadlines:
    """How long a worker may take, in seconds. `infer_s` comes on top of what the manifest's latency limit grants the rows."""

    start_s: float = 30.0
    load_s: float = 60.0
    infer_s: float = 10.0


@dataclass(frozen=True)
class Wanted:
    """What a worker is started for. `memory_mb` counts what it maps beyond the idle runtime."""

    backend: Backend
    plan: Plan
    memory_mb: int


class ChildLost(Exception):
    """The worker is gone: `code` is child-crash or child-timeout."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Child:
    """One worker process with one model. Not thread-safe."""

    def __init__(self, wanted: Wanted, clock: Clock, starter: Executor, deadlines: Deadlines) -> None:
        """Starts the process and waits until it is sandboxed. `starter` must run its calls on one thread that outlives the child: the kernel sends
        the parent-death signal when the *thread* that forked ends. Raises ChildLost, or Reject when the backend cannot be opened."""
        self._clock = clock
        self._deadlines = deadlines
        self._wanted = wanted
        self._sock, theirs = socket.socketpair()
        try:
            self._process = starter.submit(_start, wanted, theirs.fileno()).result()
        except BaseException:
            self._sock.close()
            raise
        finally:
            theirs.close()
        ready, _ = self._receive(deadlines.start_s, 0)
        try:
            self.walls = tuple(self._expect(ready, protocol.Ready).walls)
        except Reject:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, read: Callable[[], bytes]) -> None:
        """What `read` gives is let go of before the worker, which has it then, needs its memory for it.
        Raises Reject (bundle, memory, no-variant), ChildLost, or what `read` raises."""
        self._say(protocol.Load(self._wanted.plan), read(), self._deadlines.load_s)
        reply, _ = self._receive(self._deadlines.load_s, 0)
        self._expect(reply, protocol.Loaded)

    def infer(self, inputs: Tensors, granted_s: float, max_bytes: int) -> Tensors:
        """The answers of the plan, of at most `max_bytes`; not checked further. Raises Reject or ChildLost."""
        heads, data = protocol.pack(inputs)
        deadline_s = self._deadlines.infer_s + granted_s
        self._say(protocol.Infer(heads), data, deadline_s)
        reply, payload = self._receive(deadline_s, max_bytes)
        answer = self._expect(reply, protocol.Answer)
        try:
            return protocol.unpack(answer.tensors, payload)
        except protocol.ChannelClosed as error:
            raise self._lost("child-crash", str(error)) from error

    def memory_bytes(self) -> int:
        """Its proportional share (PSS, proc(5)); 0 where the kernel does not say."""
        try:
            rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)

    def close(self) -> None:
        """End the process; safe to call twice. A closed channel is the worker's word to leave, SIGKILL follows."""
        self._sock.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._kill()

    def _say(self, request: protocol.Request, payload: bytes | memoryview, deadline_s: float) -> None:
        self._sock.settimeout(deadline_s)
        try:
            protocol.send(self._sock, request, payload)
        except (protocol.ChannelClosed, TimeoutError) as error:
            raise self._lost_by(error, deadline_s) from error

    def _receive(self, deadline_s: float, max_payload_bytes: int):
        remaining_s = _countdown(self._clock, deadline_s)
        try:
            return protocol.receive(self._sock, protocol.replies, max_payload_bytes, remaining_s)
        except (protocol.ChannelClosed, TimeoutError) as error:
            raise self._lost_by(error, deadline_s) from error

    def _expect(self, reply: protocol.Reply, kind: type):
        if isinstance(reply, protocol.Failed):
            raise Reject(reply.message, code=reply.code)
        if not isinstance(reply, kind):
            raise self._lost("child-crash", f"the worker answered {type(reply).__name__}, not {kind.__name__}")
        return reply

    def _lost_by(self, error: Exception, deadline_s: float) -> ChildLost:
        if isinstance(error, TimeoutError):
            return self._lost("child-timeout", f"the worker did not answer within {deadline_s:g} s")
        return self._lost("child-crash", str(error))

    def _lost(self, code: str, message: str) -> ChildLost:
        self._sock.close()
        self._kill()
        return ChildLost(code, f"{message} (exit status {self._process.returncode})")

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _countdown(clock: Clock, deadline_s: float) -> Callable[[], float]:
    end_s = clock.monotonic_s() + deadline_s
    return lambda: end_s - clock.monotonic_s()


def _start(wanted: Wanted, fd: int) -> subprocess.Popen:
    """An own session keeps the terminal's Ctrl-C from the worker; a bare environment keeps the supervisor's secrets from it."""
    threads = str(wanted.plan.threads)
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MALLOC_ARENA_MAX": "2",
    }
    options = {
        "--fd": fd,
        "--parent": os.getpid(),
        "--memory-mb": wanted.memory_mb,
        "--backend": msgspec.json.encode(wanted.backend).decode(),
    }
    arguments = [str(word) for option in options.items() for word in option]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "edge_agent.inference.worker", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[fd],
        start_new_session=True,
    )
