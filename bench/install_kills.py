"""SIGKILL at a random moment of an update, supervisor and child alike: no device may be left without a runnable, verified model.

A device is ordered from bundle to bundle, some of which pass their proof and fail their probation, so that it has to go back, and some of which are to run
beside the other one and never answer. Each time it is killed after a time drawn uniformly from what such an update takes, most often with its workers, now
and then the worker alone. Then its journal and slots are judged from outside, it is started again, has to answer with a whole bundle, and has to end by
itself: on the ordered bundle, with the ordered one beside it, or on the one before a bad one, which it then refuses for ever. `--syscalls` kills it instead at
every state-changing system call of an update, of one that is rolled back, and of a shadow's, by strace.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import syscalls, updating
from bench.measure import Aim, Report, at_least, skip
from bench.subject import Kind, Leg, Subject
from bench.updating import World
from edge_agent.update.phases import Phase
from edge_agent.update.state import MAX_QUARANTINED, State

NAME = "install-kills"
WORKER_ONLY_SHARE = 0.2
SHARES = {Kind.GOOD: 0.45, Kind.BAD: 0.4, Kind.SHADOW: 0.15}
BAD_BUNDLES = MAX_QUARANTINED + 2
"""More than a device remembers: when one comes again, it is as if it were new."""
ALL_PHASES_KILLS = 200
"""So many kills have to hit every phase."""
_CALIBRATIONS = 3
_CALIBRATION_KILLS = 15
_PROGRESS_S = 10.0
_BEFORE, _AFTER = "idle, before it begins", "idle, after its end"


@dataclass(frozen=True)
class Kill:
    """What one kill came to: the phase that the journal held, what the order was for, and what went wrong (nothing: None)."""

    where: str
    victim: str
    kind: Kind
    unrunnable: str | None = None
    diverged: str | None = None
    refused: int = 0


Tell = Callable[[Kill], None]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=at_least(1), default=60, metavar="N", help="kills at a random moment (default: 60)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments (default: 1)")
    parser.add_argument("--workers", type=at_least(1), default=2, metavar="N", help="devices at a time (default: 2)")
    parser.add_argument("--syscalls", action="store_true", help="kill at every state-changing system call instead (needs strace)")
    parser.add_argument("--every", type=at_least(1), default=1, metavar="N", help="with --syscalls: at each n-th of them only (default: 1)")


def run(runs: int, seed: int, workers: int, syscalls: bool, every: int) -> Report:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="install-kills-") as folder:
        world = World(Path(folder) / "server", bad=1 if syscalls else BAD_BUNDLES)
        if syscalls:
            return _sweep(Path(folder), world, workers, every)
        kills = list(_all_kills(Path(folder), world, runs, seed, workers))
    return report(kills, missed_phases(kills) if runs >= ALL_PHASES_KILLS else None)


def report(kills: Sequence[Kill], missed: int | None) -> Report:
    """`missed` phases were hit by none of many random kills; None when there were not many."""
    table: list[tuple[str, ...]] = [
        ("killed while", "kills", "of a worker alone", "of a bad bundle's update", "of a shadow's", "unrunnable", "diverged")
    ]
    for where in sorted({kill.where for kill in kills}):
        there = [kill for kill in kills if kill.where == where]
        counts = (len(there), *(sum(map(holds, there)) for holds in _COLUMNS))
        table.append((where, *map(str, counts)))
    aims = [
        Aim("kills", len(kills), 1),
        Aim("devices without a runnable, verified model", sum(bool(kill.unrunnable) for kill in kills), 0, at_most=True),
        Aim("devices that did not come to the good bundle", sum(bool(kill.diverged) for kill in kills), 0, at_most=True),
        Aim("requests given up while a worker alone was killed", sum(kill.refused for kill in kills), 0, at_most=True),
        Aim("phases of an update in which no kill fell", missed, 0, at_most=True),
    ]
    return Report(NAME, table, aims)


_COLUMNS: tuple[Callable[[Kill], bool], ...] = (
    lambda kill: kill.victim == "worker",
    lambda kill: kill.kind == Kind.BAD,
    lambda kill: kill.kind == Kind.SHADOW,
    lambda kill: kill.unrunnable is not None,
    lambda kill: kill.diverged is not None,
)


def missed_phases(kills: Sequence[Kill]) -> int:
    return len({phase.value for phase in Phase if phase is not Phase.IDLE} - {kill.where for kill in kills})


def _all_kills(folder: Path, world: World, runs: int, seed: int, workers: int) -> Iterator[Kill]:
    shares = [runs // workers + (number < runs % workers) for number in range(workers)]
    jobs = [
        lambda tell, number=number, share=share: _kill_often(folder / f"device-{number}", world, share, seed + number, tell)
        for number, share in enumerate(shares)
    ]
    return _gathered(jobs, runs)


def _gathered(jobs: Sequence[Callable[[Tell], None]], expected: int) -> Iterator[Kill]:
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


def _kill_often(state: Path, world: World, runs: int, seed: int, tell: Tell) -> None:
    chance = random.Random(seed)
    durations_s = {kind: deque(maxlen=_CALIBRATIONS) for kind in Kind}
    with Subject(state, world) as subject:
        subject.settle()
        for turn in range(runs):
            if turn % _CALIBRATION_KILLS == 0:
                _calibrate(subject, durations_s, times=1 if turn else _CALIBRATIONS if runs > _CALIBRATION_KILLS else 1)
            kind = chance.choices([*SHARES], [*SHARES.values()])[0]
            leg = subject.depart(kind)
            time.sleep(chance.uniform(0, statistics.median(durations_s[kind])))
            tell(_kill_once(subject, leg, worker_alone=chance.random() < WORKER_ONLY_SHARE))


def _calibrate(subject: Subject, durations_s: dict[Kind, deque[float]], times: int) -> None:
    """What an update of each kind takes changes with what else the machine does."""
    for _ in range(times):
        for kind, spent_s in durations_s.items():
            spent_s.append(subject.undisturbed(kind))


def _kill_once(subject: Subject, leg: Leg, *, worker_alone: bool) -> Kill:
    if worker_alone:
        there = phase_at(subject.journal(), leg)
        subject.kill_worker()
    else:
        subject.kill()
        there = phase_at(subject.journal(), leg)
    victim = "worker" if worker_alone else "supervisor and workers"
    return Kill(there, victim, leg.kind, **asdict(subject.recover(leg)))


def phase_at(state: State, leg: Leg) -> str:
    if state.phase is not Phase.IDLE:
        return state.phase.value
    there = state.shadow if leg.kind is Kind.SHADOW else state.active
    over = leg.new in state.quarantined if leg.kind is Kind.BAD else there is not None and there.sha256 == leg.new
    return _AFTER if over else _BEFORE


def _sweep(folder: Path, world: World, workers: int, every: int) -> Report:
    reason = syscalls.obstacle()
    if reason is not None:
        return skip(NAME, reason)
    with Subject(folder / "template", world) as template:
        template.settle()
        template.undisturbed(Kind.GOOD)
        template.kill()
        sweep = Sweep(template, world)
        points = [(leg, point) for leg in sweep.legs for point in sweep.rehearse(leg, folder / "rehearsal")][::every]
    print(f"{len(points)} state-changing calls to be killed at", file=sys.stderr)
    jobs = [
        lambda tell, number=number: sweep.kill_at_each(folder / f"device-{number}", points[number::workers], tell)
        for number in range(workers)
    ]
    return report(list(_gathered(jobs, len(points))), None)


class Sweep:
    """Copies of one settled device, each killed at one system call of one of the `legs`."""

    def __init__(self, template: Subject, world: World) -> None:
        self._template, self._world = template, world
        self.legs = [template.next_leg(kind) for kind in Kind]

    def rehearse(self, leg: Leg, state: Path) -> list[syscalls.Point]:
        self._ordered(leg, state)
        return syscalls.rehearse(state, self._world, leg.is_over)

    def kill_at_each(self, state: Path, points: Sequence[tuple[Leg, syscalls.Point]], tell: Tell) -> None:
        for leg, point in points:
            with self._ordered(leg, state) as subject:
                killed = syscalls.kill_at(state, self._world, point, leg.is_over)
                where = f"{point.call} {point.what}" if killed else "not reached"
                tell(Kill(where, "supervisor and workers", leg.kind, **asdict(subject.recover(leg))))

    def _ordered(self, leg: Leg, state: Path) -> Subject:
        """A copy on `state` that has been ordered to that, and does not run yet."""
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(self._template.state, state)
        subject = Subject(state, self._world, counter=self._template.counter)
        subject.order_for(leg)
        return subject
