"""The supervisor's side of one worker: starts it, talks to it under deadlines, and ends it by its process id."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_agent.errors import Reject
from edge_agent.inference import layout, protocol
from edge_agent.inference.arena import Arena, NoRoom
from edge_agent.inference.channel import AWAKE_S, NOWHERE, Channel, Span
from edge_agent.inference.frame import ChannelClosed, Frame
from edge_agent.inference.plan import Plan
from edge_agent.ports import Clock, Tensors
from edge_agent.vigil import affordable
from firmware_profiles.catalog import Backend
from fleet_contract import limits

_END_S = 2.0


@dataclass(frozen=True)
class Deadlines:
    """How long a worker may take, in seconds. `infer_s` comes on top of what the manifest's latency limit grants the rows."""

    start_s: float = 30.0
    load_s: float = 60.0
    infer_s: float = 10.0


@dataclass(frozen=True)
class Wanted:
    """What a worker is started for. `memory_mb` counts what it maps beyond the idle runtime. `cores` are those that it may run on, if the board has
    any of them; none: all."""

    backend: Backend
    plan: Plan
    memory_mb: int
    cores: Sequence[int] = ()
    nice: int = 0


class ChildLost(Exception):
    """The worker is gone: `code` is child-crash or child-timeout."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Late(Exception):
    """The caller's patience ended before the worker's deadline; what it answers yet will be thrown away."""


class _Owed(NamedTuple):
    """An answer that is still to come."""

    end_s: float
    deadline_s: float
    max_bytes: int


class Child:
    """One worker process with one model. For one thread at a time, but that another may `ask` while an answer is awaited."""

    def __init__(self, wanted: Wanted, clock: Clock, starter: Executor, deadlines: Deadlines) -> None:
        """Starts the process and waits until it is sandboxed. `starter` must run its calls on one thread that outlives the child: the kernel sends
        the parent-death signal when the *thread* that forked ends. Raises ChildLost, or Reject when the backend cannot be opened."""
        self._clock = clock
        self._deadlines = deadlines
        self._wanted = wanted
        self._owed: _Owed | None = None
        self._speaking = threading.Lock()
        self._asked: Span = NOWHERE
        ours, theirs = socket.socketpair()
        arena = Arena.create(min(limits.MAX_BATCH_BYTES, wanted.memory_mb * limits.MIB // 2))
        self._channel = Channel(ours, arena, protocol.replies, affordable(AWAKE_S))
        try:
            self._process = starter.submit(_start, wanted, theirs.fileno(), arena.fd).result()
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        try:
            self.walls = tuple(self._expect(self._receive(deadlines.start_s), protocol.Ready).walls)
        except Reject:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, read: Callable[[], bytes]) -> None:
        """What `read` gives is let go of before the worker, which has it then, needs its memory for it.
        Raises Reject (bundle, memory, no-variant), ChildLost, or what `read` raises."""
        deadline_s = self._deadlines.load_s
        try:
            self._channel.send(protocol.Load(self._wanted.plan), read(), deadline_s)
        except (ChannelClosed, TimeoutError) as error:
            raise self._lost_by(error, deadline_s) from error
        self._expect(self._receive(deadline_s), protocol.Loaded)

    def infer(self, inputs: Tensors, granted_s: float, max_bytes: int, patience_s: float | None = None) -> Tensors:
        """The answers of the plan, of at most `max_bytes`; not checked further. Raises Reject, ChildLost, or Late after `patience_s`."""
        began_s = self._clock.monotonic_s()
        self.ask(inputs, max_bytes)
        return self.hear(granted_s, max_bytes, began_s, patience_s)

    def ask(self, inputs: Tensors, max_bytes: int) -> None:
        """To be followed by `hear`. Raises Reject, or ChildLost."""
        try:
            self._ask(inputs, max_bytes, NOWHERE)
        except (ChannelClosed, TimeoutError) as error:
            raise self._lost_by(error, self._deadlines.infer_s) from error

    def ask_ahead(self, inputs: Tensors, max_bytes: int) -> bool:
        """While another thread hears the answer to what was asked last, and until it has nobody else may `hear`. False where that cannot be: `ask`
        says why, then."""
        try:
            self._ask(inputs, max_bytes, self._asked)
        except (Reject, ChannelClosed, TimeoutError):
            return False
        return True

    def hear(self, granted_s: float, max_bytes: int, began_s: float, patience_s: float | None = None) -> Tensors:
        """The answers to what was asked, as `infer`; it is late by when the worker `began`."""
        deadline_s = self._deadlines.infer_s + granted_s
        self._owed = _Owed(began_s + deadline_s, deadline_s, max_bytes + layout.SLACK_BYTES)
        if patience_s is None:
            return self._collect(self._owed, deadline_s, deadline_s)
        return self._collect(self._owed, began_s + patience_s - self._clock.monotonic_s(), deadline_s)

    @property
    def is_owing(self) -> bool:
        return self._owed is not None

    def settle(self, patience_s: float | None) -> None:
        """Hears and drops what it still owes after a Late; to be called before it is asked again. Raises ChildLost, or Late."""
        if self._owed is None:
            return
        try:
            left_s = self._owed.end_s - self._clock.monotonic_s()
            self._collect(self._owed, left_s if patience_s is None else patience_s, left_s)
        except Reject:
            pass

    def memory_bytes(self) -> int:
        """Its proportional share (PSS, proc(5)); 0 where the kernel does not say."""
        try:
            rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)

    def close(self) -> None:
        """End the process; safe to call twice. A closed channel is the worker's word to leave, SIGKILL follows."""
        self._hang_up()
        try:
            self._process.wait(_END_S if self._owed is None else 0)
        except subprocess.TimeoutExpired:
            self._kill()

    def _collect(self, owed: _Owed, patience_s: float, left_s: float) -> Tensors:
        try:
            frame = self._channel.receive(owed.max_bytes, min(patience_s, left_s), lambda: owed.end_s - self._clock.monotonic_s())
        except TimeoutError as error:
            if patience_s < left_s:
                raise Late(f"no answer within {patience_s:g} s") from error
            raise self._lost_by(error, owed.deadline_s) from error
        except ChannelClosed as error:
            raise self._lost_by(error, owed.deadline_s) from error
        self._owed = None
        self._expect(frame, protocol.Answer)
        try:
            return frame.copy()
        except ChannelClosed as error:
            raise self._lost("child-crash", str(error)) from error

    def _receive(self, deadline_s: float) -> Frame:
        end_s = self._clock.monotonic_s() + deadline_s
        try:
            return self._channel.receive(0, deadline_s, lambda: end_s - self._clock.monotonic_s())
        except (ChannelClosed, TimeoutError) as error:
            raise self._lost_by(error, deadline_s) from error

    def _expect(self, frame: Frame, kind: type):
        reply = frame.message
        if isinstance(reply, kind):
            return reply
        if isinstance(reply, protocol.Failed):
            raise Reject(reply.message, code=reply.code)
        raise self._lost("child-crash", f"the worker answered {type(reply).__name__}, not {kind.__name__}")

    def _lost_by(self, error: Exception, deadline_s: float) -> ChildLost:
        if isinstance(error, TimeoutError):
            return self._lost("child-timeout", f"the worker did not answer within {deadline_s:g} s")
        return self._lost("child-crash", str(error))

    def _lost(self, code: str, message: str) -> ChildLost:
        self._hang_up()
        self._kill()
        return ChildLost(code, f"{message} (exit status {self._process.returncode})")

    def _ask(self, inputs: Tensors, max_bytes: int, beside: Span) -> None:
        try:
            with self._speaking:
                self._asked = self._channel.send_tensors(protocol.Infer, inputs, room_bytes=max_bytes + layout.SLACK_BYTES, beside=beside)
        except ValueError as error:
            raise Reject(f"the batch cannot be sent: {error}", code="too-large" if isinstance(error, NoRoom) else "bad-input") from error

    def _hang_up(self) -> None:
        """Nobody speaks into a descriptor that is somebody else's by then."""
        with self._speaking:
            self._channel.close()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _start(wanted: Wanted, fd: int, arena_fd: int) -> subprocess.Popen:
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
        "--arena-fd": arena_fd,
        "--parent": os.getpid(),
        "--memory-mb": wanted.memory_mb,
        "--cores": ",".join(str(core) for core in wanted.cores),
        "--nice": wanted.nice,
        "--backend": msgspec.json.encode(wanted.backend).decode(),
    }
    arguments = [str(word) for option in options.items() for word in option]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "edge_agent.inference.worker", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[fd, arena_fd],
        start_new_session=True,
    )
