"""A device that is killed, seen from outside: its process, its folder, what was ordered of it, and whether it came through."""

import itertools
import json
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench import updating
from bench.updating import Device, Sight, World
from edge_agent.errors import AgentError
from edge_agent.storage.journal import Journal
from edge_agent.update.phases import Phase
from edge_agent.update.slots import Slots
from edge_agent.update.state import State

PATIENCE_S = 120.0


class Kind(StrEnum):
    """What an order is for: a bundle that passes, one whose probation has to fail, or one that is to run beside the other and never answer."""

    GOOD = "good"
    BAD = "bad"
    SHADOW = "shadow"


@dataclass(frozen=True)
class Leg:
    """Ordered from the good bundle `old` to `new`."""

    old: str
    new: str
    kind: Kind

    @property
    def end(self) -> str:
        """What has to answer in the end."""
        return self.new if self.kind is Kind.GOOD else self.old

    @property
    def may_answer(self) -> tuple[str, ...]:
        return (self.old,) if self.kind is Kind.SHADOW else (self.old, self.new)

    def is_over(self, sight: Sight) -> bool:
        """Settled on the bundle that is good and answering with it; a bad one is in quarantine, a shadow runs."""
        settled = sight.phase == Phase.IDLE and sight.ordered == self.new and sight.active == sight.answering == self.end
        beside = self.new if self.kind is Kind.SHADOW else None
        return settled and sight.beside == beside and sight.barred is (self.kind is Kind.BAD)


@dataclass(frozen=True)
class Recovery:
    """What went wrong after a kill (nothing: None)."""

    unrunnable: str | None = None
    diverged: str | None = None
    refused: int = 0


class Running:
    """A device in a process of its own."""

    def __init__(self, state: Path, world: World) -> None:
        self._pipe, show = os.pipe()
        self.pid = updating.fork(lambda: _serve(state, world, show))
        os.close(show)
        self._buffer = b""
        self.sight = Sight()

    def until(self, holds: Callable[[Sight], bool], patience_s: float = PATIENCE_S) -> bool:
        """Look until `holds(sight)`; False when that took too long or the device ended."""
        end_s = time.monotonic() + patience_s
        while not holds(self.sight):
            ready, _, _ = select.select([self._pipe], [], [], max(0.0, end_s - time.monotonic()))
            data = os.read(self._pipe, 65_536) if ready else b""
            if not data:
                return False
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                self.sight = Sight(**json.loads(line))
        return True

    def workers(self) -> list[int]:
        """The supervisor's child processes."""
        tasks = Path(f"/proc/{self.pid}/task")
        found = [task / "children" for task in tasks.iterdir()] if tasks.exists() else []
        return [int(word) for path in found if path.exists() for word in path.read_text().split()]

    def kill(self) -> None:
        """The supervisor and its workers, and wait until they are gone."""
        for pid in (self.pid, *self.workers()):
            _kill(pid)
        os.waitpid(self.pid, 0)
        os.close(self._pipe)


class Subject:
    """The device on the folder `state`. `counter` is that of the newest order; `good` the bundle that it has to come to."""

    def __init__(self, state: Path, world: World, *, counter: int = 0) -> None:
        self.state, self._world = state, world
        self.counter, self.good = counter, world.digests[0]
        self._bad = itertools.cycle(world.bad_digests)
        self._running: Running | None = None

    def __enter__(self) -> "Subject":
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    def settle(self) -> None:
        """Bring a new device to its first bundle. Raises RuntimeError."""
        self.state.mkdir()
        self.order(self.good)
        if not self._device().until(lambda sight: sight.runs(self.good)):
            raise RuntimeError(f"the device does not install at all: {self._device().sight}")

    def undisturbed(self, kind: Kind) -> float:
        """The seconds that such an update takes, from its order to its end. Raises RuntimeError when it has none."""
        begun_s = time.monotonic()
        leg = self.depart(kind)
        if not self._device().until(leg.is_over):
            raise RuntimeError(f"the device does not come through undisturbed: {self._device().sight}")
        return time.monotonic() - begun_s

    def depart(self, kind: Kind) -> Leg:
        """Order the next bundle of that kind."""
        leg = self.next_leg(kind)
        self.good = leg.end
        self._device()
        self.order_for(leg)
        return leg

    def next_leg(self, kind: Kind) -> Leg:
        good = self._world.digests
        new = next(self._bad) if kind is Kind.BAD else good[(good.index(self.good) + 1) % len(good)]
        return Leg(self.good, new, kind)

    def order_for(self, leg: Leg) -> None:
        self.order(leg.new, shadow=leg.kind is Kind.SHADOW)

    def order(self, sha256: str, *, shadow: bool = False) -> None:
        self.counter += 1
        updating.place_order(self.state, self._world.order(sha256, self.counter, shadow=shadow))

    def kill(self) -> None:
        """Supervisor and workers."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def kill_worker(self) -> None:
        """The newest worker: that of the candidate, if it has one."""
        for pid in self._device().workers()[-1:]:
            _kill(pid)

    def journal(self) -> State:
        return Journal(self.state / "journal.json", State).read() or State()

    def whole(self) -> str | None:
        """What is wrong with the model that a start would bring up, judged by the journal and the slots alone; None when it is there, byte for byte."""
        try:
            journal = self.journal()
            model = journal.previous if journal.phase is Phase.REVERTING else journal.active
            if model is None:
                return f"the journal names no model while {journal.phase}"
            Slots(self.state / "slots").open(model)
        except AgentError as error:
            return f"{error.code}: {error}"
        return None

    def recover(self, leg: Leg) -> Recovery:
        """Once something was killed: has the device a whole model, does it answer, and does it come to the end of `leg`, by itself?"""
        wrong, refused = self.whole(), self._running.sight.refused if self._running else 0
        device = self._device()
        if wrong is None and not device.until(lambda sight: sight.answering in leg.may_answer):
            wrong = f"it does not answer: {device.sight}"
        diverged = None if device.until(leg.is_over) else f"it ended on {device.sight}"
        refused = device.sight.refused - refused
        if diverged is None and leg.kind is Kind.BAD:
            diverged = self._tried_again(leg)
        return Recovery(wrong, diverged, refused)

    def _tried_again(self, leg: Leg) -> str | None:
        """What a new start makes of a newer order for the bundle that failed; None when it is refused, and the good one answers."""
        self.kill()
        self.order(leg.new)
        device = self._device()
        refused = device.until(lambda sight: (sight.trouble or "").startswith("quarantined:") and leg.is_over(sight))
        return None if refused else f"it takes what it had rejected: {device.sight}"

    def _device(self) -> Running:
        if self._running is None:
            self._running = Running(self.state, self._world)
        return self._running


def _serve(state: Path, world: World, show: int) -> None:
    logging.getLogger("edge_agent").setLevel(logging.ERROR)  # what it warns of is what is done to it
    with ExitStack() as closing:
        Device(state, world, closing).serve(show)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
