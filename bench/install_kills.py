"""SIGKILL at a random moment of an update, supervisor and child alike: no device may be left without a runnable, verified model.

A device is ordered from bundle to bundle. Each time it is killed after a time drawn uniformly from what an update takes, most often with its workers, now
and then the worker alone. Then its journal and slots are judged from outside, it is started again, has to answer with a whole bundle, and has to end on the
ordered one by itself. `--syscalls` kills it instead at every state-changing system call of an update in turn, by strace.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import syscalls, updating
from bench.measure import Aim, Report, skip
from bench.updating import Device, Sight, World
from edge_agent.errors import AgentError
from edge_agent.storage.journal import Journal
from edge_agent.update.phases import Phase
from edge_agent.update.slots import Slots
from edge_agent.update.state import State

PATIENCE_S = 120.0
WORKER_ONLY_SHARE = 0.2
CALIBRATIONS = 3
_PROGRESS_S = 10.0


@dataclass(frozen=True)
class Kill:
    """What one kill came to: the phase that the journal held, and what went wrong (nothing: None)."""

    where: str
    victim: str
    unrunnable: str | None = None
    diverged: str | None = None
    refused: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=60, metavar="N", help="kills at a random moment (default: 60)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments (default: 1)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="devices at a time (default: 2)")
    parser.add_argument("--syscalls", action="store_true", help="kill at every state-changing system call instead (needs strace)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="with --syscalls: at each n-th of them only (default: 1)")


def run(runs: int, seed: int, workers: int, syscalls: bool, every: int) -> Report:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="install-kills-") as folder:
        world = World(Path(folder) / "server")
        if syscalls:
            return _sweep(Path(folder), world, workers, every)
        return _report("install-kills", list(_all_kills(Path(folder), world, runs, seed, workers)))


class Running:
    """A device in a process of its own, seen from outside."""

    def __init__(self, state: Path, world: World) -> None:
        self.state = state
        self._pipe, show = os.pipe()
        self.pid = updating.fork(lambda: _serve(state, world, show))
        os.close(show)
        self._buffer = b""
        self.sight = Sight()

    def until(self, holds, patience_s: float = PATIENCE_S) -> bool:
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
        workers = self.workers()
        for pid in (self.pid, *workers):
            _kill(pid)
        self.collect()

    def collect(self) -> int:
        """Wait for the end of the supervisor; its wait status."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._pipe)
        return status


@contextmanager
def running(state: Path, world: World) -> Iterator[Running]:
    device = Running(state, world)
    try:
        yield device
    finally:
        device.kill()


def whole(state: Path) -> str | None:
    """What is wrong with the model that a start would bring up, judged by the journal and the slots alone; None when it is there, byte for byte."""
    try:
        journal = Journal(state / "journal.json", State).read() or State()
        model = journal.previous if journal.phase is Phase.REVERTING else journal.active
        if model is None:
            return f"the journal names no model while {journal.phase}"
        Slots(state / "slots").open(model)
    except AgentError as error:
        return f"{error.code}: {error}"
    return None


def phase_of(state: Path) -> str:
    return (Journal(state / "journal.json", State).read() or State()).phase.value


def recover(state: Path, world: World, old: str, new: str) -> tuple[Running, Kill]:
    """Start the device again: the one that runs now, why it did not run with a whole bundle, and why it did not come to the ordered one."""
    wrong = whole(state)
    device = Running(state, world)
    if wrong is None and not device.until(lambda sight: sight.answering in (old, new)):
        wrong = f"it does not answer: {device.sight}"
    diverged = None if device.until(lambda sight: sight.runs(new)) else f"it ended on {device.sight}"
    return device, Kill("", "supervisor and workers", wrong, diverged, device.sight.refused)


def _serve(state: Path, world: World, show: int) -> None:
    with ExitStack() as closing:
        Device(state, world, closing).serve(show)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _settled(state: Path, world: World) -> tuple[str, float]:
    """Bring a new device to its first bundle; that, and the seconds that an update to another takes here."""
    state.mkdir()
    digests, times = world.digests, []
    with running(state, world) as device:
        for turn in range(CALIBRATIONS + 1):
            begun_s = time.monotonic()
            updating.place_order(state, world.order(digests[turn % len(digests)], turn + 1))
            if not device.until(lambda sight, new=digests[turn % len(digests)]: sight.runs(new)):
                raise RuntimeError(f"the device does not update at all: {device.sight}")
            times.append(time.monotonic() - begun_s)
    return digests[CALIBRATIONS % len(digests)], statistics.median(times[1:])


def _all_kills(folder: Path, world: World, runs: int, seed: int, workers: int) -> Iterator[Kill]:
    shares = [runs // workers + (number < runs % workers) for number in range(workers)]
    jobs = [
        lambda tell, number=number, share=share: _kill_often(folder / f"device-{number}", world, share, seed + number, tell)
        for number, share in enumerate(shares)
    ]
    return _gathered(jobs, runs)


def _gathered(jobs: Sequence[Callable[[Callable[[Kill], None]], None]], expected: int) -> Iterator[Kill]:
    """What the jobs tell, each in a process of its own, as it comes."""
    told, tell = os.pipe()
    children = [updating.fork(lambda job=job: job(lambda kill: _tell(tell, kill))) for job in jobs]
    os.close(tell)
    shown_s, bad = time.monotonic(), 0
    with os.fdopen(told) as lines:
        for count, line in enumerate(lines, 1):
            kill = Kill(**json.loads(line))
            if kill.unrunnable or kill.diverged:
                bad += 1
                print(f"BAD: {kill}", file=sys.stderr)
            if count == expected or time.monotonic() - shown_s > _PROGRESS_S:
                shown_s = time.monotonic()
                print(f"{count} of {expected} kills, {bad} bad", file=sys.stderr)
            yield kill
    if any(os.waitpid(child, 0)[1] for child in children):
        raise RuntimeError("a device's tormentor failed itself")


def _tell(pipe: int, kill: Kill) -> None:
    """One line; short enough to be written whole between those of others."""
    os.write(pipe, json.dumps(asdict(kill)).encode() + b"\n")


def _kill_often(state: Path, world: World, runs: int, seed: int, tell: Callable[[Kill], None]) -> None:
    chance = random.Random(seed)
    old, update_s = _settled(state, world)
    device, digests = Running(state, world), world.digests
    try:
        for turn in range(runs):
            new = digests[(digests.index(old) + 1) % len(digests)]
            device.until(lambda sight, wanted=old: sight.runs(wanted))
            updating.place_order(state, world.order(new, CALIBRATIONS + 2 + turn))
            time.sleep(chance.uniform(0, update_s))
            device, kill = (_kill_worker if chance.random() < WORKER_ONLY_SHARE else _kill_all)(device, world, old, new)
            tell(kill)
            old = new
    finally:
        device.kill()


def _kill_worker(device: Running, world: World, old: str, new: str) -> tuple[Running, Kill]:
    """The newest worker: that of the candidate, if it has one."""
    refused = device.sight.refused
    where = phase_of(device.state)
    for pid in device.workers()[-1:]:
        _kill(pid)
    wrong = whole(device.state)
    diverged = None if device.until(lambda sight: sight.runs(new)) else f"it ended on {device.sight}"
    return device, Kill(where, "worker", wrong, diverged, device.sight.refused - refused)


def _kill_all(device: Running, world: World, old: str, new: str) -> tuple[Running, Kill]:
    device.kill()
    where = phase_of(device.state)
    device, kill = recover(device.state, world, old, new)
    return device, replace(kill, where=where)


def _sweep(folder: Path, world: World, workers: int, every: int) -> Report:
    reason = syscalls.obstacle()
    if reason is not None:
        return skip("install-kills", reason)
    template = folder / "template"
    old, _ = _settled(template, world)
    new = world.digests[(world.digests.index(old) + 1) % len(world.digests)]
    updating.place_order(template, world.order(new, CALIBRATIONS + 2))
    points = syscalls.rehearse(_copy(template, folder / "rehearsal"), world)[::every]
    print(f"{len(points)} state-changing calls to be killed at", file=sys.stderr)
    jobs = [
        lambda tell, number=number: _kill_at_each(folder / f"device-{number}", template, world, points[number::workers], (old, new), tell)
        for number in range(workers)
    ]
    return _report("install-kills", list(_gathered(jobs, len(points))))


def _kill_at_each(state: Path, template: Path, world: World, points, leg: tuple[str, str], tell) -> None:
    for point in points:
        _copy(template, state)
        killed = syscalls.kill_at(state, world, point)
        where = f"{point.call} {point.what}" if killed else "not reached"
        device, kill = recover(state, world, *leg)
        device.kill()
        tell(replace(kill, where=where))


def _copy(template: Path, state: Path) -> Path:
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(template, state)
    shutil.copy(template.with_name(f"{template.name}.order"), state.with_name(f"{state.name}.order"))
    return state


def _report(name: str, kills: list[Kill]) -> Report:
    table: list[tuple[str, ...]] = [("killed while", "kills", "of a worker alone", "unrunnable", "diverged")]
    for where, count in sorted(Counter(kill.where for kill in kills).items()):
        there = [kill for kill in kills if kill.where == where]
        alone = sum(kill.victim == "worker" for kill in there)
        table.append(
            (where, str(count), str(alone), str(sum(bool(k.unrunnable) for k in there)), str(sum(bool(k.diverged) for k in there)))
        )
    aims = [
        Aim("kills", len(kills), 1),
        Aim("devices without a runnable, verified model", sum(bool(kill.unrunnable) for kill in kills), 0, at_most=True),
        Aim("devices that did not come to the ordered bundle", sum(bool(kill.diverged) for kill in kills), 0, at_most=True),
        Aim("requests given up while a worker alone was killed", sum(kill.refused for kill in kills), 0, at_most=True),
    ]
    return Report(name, table, aims)
