"""Power cuts at random moments of an update: what the disk then holds is whole, answers by itself, and converges.

Each run updates a device on a disk of its own (see bench/disk.py), which also commits numbered records to its outbox, and cuts the power at a
uniformly random moment of the update. On the copy the file system replays its journal and a new agent starts, at first without a server. The control does the
same with fsync taken from the agent: it has to show damage, or the method would have no teeth.
"""

import argparse
import json
import os
import random
import select
import signal
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.disk import Disks, NotHere, disks, enter_private_namespace
from bench.measure import Aim, Report, at_least, skip
from bench.updating import Device, Sight, World, fork, place_order
from edge_agent.clock import SystemClock
from edge_agent.errors import AgentError
from edge_agent.outbox import database
from edge_agent.outbox.lanes import LANES
from edge_agent.storage.journal import Journal
from edge_agent.trust.time import Witnesses
from edge_agent.update.phases import Phase
from edge_agent.update.slots import Slots
from edge_agent.update.state import State
from fleet_contract import batches
from fleet_contract.errors import ContractError
from fleet_contract.messages import Event, Lane, decode_record

NAME = "power-cuts"
_SETTLE_S = 60.0
_KIND = "bench.record"
_RECORD_S = 0.003
FAULTS = ("torn", "unrunnable", "stuck", "lost")
_MEANING = {
    "torn": "journal, time, metadata, outbox or the active bundle damaged",
    "unrunnable": "no verified model answers without the server",
    "stuck": "the update does not end once the server is back",
    "lost": "a committed record is gone",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: sudo python -m bench power-cuts --runs 5 --control-runs 2"
    parser.add_argument("--runs", type=at_least(1), default=50, metavar="N", help="cuts, as root (default: 50)")
    parser.add_argument(
        "--control-runs", type=at_least(0), default=10, metavar="N", help="cuts without fsync, which must show damage (default: 10)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments (default: 1)")


def run(runs: int, control_runs: int, seed: int) -> Report:
    try:
        enter_private_namespace()
        with tempfile.TemporaryDirectory(prefix="power-cuts-") as folder, disks(Path(folder)) as made:
            lab = Lab(Path(folder), made, random.Random(seed))
            lab.settle()
            real = [lab.cut(synced=True) for _ in range(runs)]
            control = [lab.cut(synced=False) for _ in range(control_runs)]
    except NotHere as reason:
        return skip(NAME, str(reason))
    return report(real, control)


@dataclass(frozen=True)
class Cut:
    """One power cut: the phase that the device showed last, the records that were committed before it, and what was wrong afterwards."""

    phase: str
    records: int
    faults: frozenset[str]


def report(real: list[Cut], control: list[Cut]) -> Report:
    phases = Counter(cut.phase for cut in real)
    table = [
        ("", "cuts", *FAULTS),
        ("fsync as shipped", str(len(real)), *(str(sum(fault in cut.faults for cut in real)) for fault in FAULTS)),
        ("control: no fsync", str(len(control)), *(str(sum(fault in cut.faults for cut in control)) for fault in FAULTS)),
        *((f"cut while {phase}", str(count), *("",) * len(FAULTS)) for phase, count in sorted(phases.items())),
        ("records committed before the cuts", str(sum(cut.records for cut in real)), *("",) * len(FAULTS)),
    ]
    aims = [Aim(f"{fault}: {_MEANING[fault]}", float(sum(fault in cut.faults for cut in real)), 0.0, at_most=True) for fault in FAULTS]
    harmed = float(sum(bool(cut.faults) for cut in control)) if control else None
    return Report(NAME, table, [*aims, Aim("control cuts that show damage", harmed, 1.0)])


class Lab:
    """One world, and an image of a device that has settled on its first bundle."""

    def __init__(self, folder: Path, made: Disks, chance: random.Random) -> None:
        (folder / "world").mkdir()
        (folder / "nothing").mkdir()
        self._folder, self._disks, self._chance = folder, made, chance
        self._world = World(folder / "world")
        self._offline = Offline(folder / "nothing", self._world.root)
        self._image, self._settled, self._copy = made.new("device.img"), folder / "settled.img", folder / "copy.img"
        self._mount = folder / "mount"
        self._duration_s = 0.0

    def settle(self) -> None:
        """Install the first bundle, and see how long the next one takes; the disk afterwards is that of the first."""
        with self._disks.mounted(self._image, self._mount) as at:
            self._update(at, self._world.digests[0], 1)
        self._disks.cut(self._image, self._settled)
        with self._disks.mounted(self._image, self._mount) as at:
            self._duration_s = self._update(at, self._world.digests[1], 2)

    def cut(self, *, synced: bool) -> Cut:
        self._disks.restore(self._settled, self._image)
        with self._disks.mounted(self._image, self._mount) as at:
            place_order(at / "state", self._world.order(self._world.digests[1], 2))
            with running(at / "state", self._world, synced=synced, recording=True) as device:
                device.watch(_SETTLE_S, is_updating)
                device.watch(self._chance.uniform(0, self._duration_s))
                sight, records = device.sight, device.records
                self._disks.cut(self._image, self._copy)
        return Cut(sight.phase or "starting", records, frozenset(self._faults(records)))

    def _update(self, at: Path, digest: str, counter: int) -> float:
        """The seconds from the first step of the update to the last."""
        place_order(at / "state", self._world.order(digest, counter))
        with running(at / "state", self._world) as device:
            began = device.watch(_SETTLE_S, is_updating)
            began_s = time.monotonic()
            if not began or not device.watch(_SETTLE_S, lambda sight: sight.runs(digest)):
                raise RuntimeError(f"the device does not update even without a cut: {device.sight}")
            return time.monotonic() - began_s

    def _faults(self, records: int) -> Iterator[str]:
        with self._disks.mounted(self._copy, self._mount) as at:
            state = at / "state"
            if is_torn(state):
                yield "torn"
            if not {*range(records)} <= recorded(state / "outbox.db"):
                yield "lost"
            with running(state, self._offline) as device:
                if not device.watch(_SETTLE_S, lambda sight: sight.answering in self._world.digests):
                    yield "unrunnable"
            place_order(state, self._world.order(self._world.digests[1], 3))
            with running(state, self._world) as device:
                if not device.watch(_SETTLE_S, lambda sight: sight.runs(self._world.digests[1])):
                    yield "stuck"


def is_updating(sight: Sight) -> bool:
    return sight.phase not in ("", Phase.IDLE)


@dataclass(frozen=True)
class Offline:
    """A world without files: every request fails."""

    files: Path
    root: bytes


class Running:
    """A device in a process of its own, and what it has told."""

    def __init__(self, told: int) -> None:
        self._told, self._rest = told, b""
        self.sight, self.records = Sight(), 0

    def watch(self, longest_s: float, until=lambda sight: False) -> bool:
        """Whether the device came to show that."""
        end_s = time.monotonic() + longest_s
        while (left_s := end_s - time.monotonic()) > 0:
            ready, _, _ = select.select([self._told], [], [], left_s)
            if not ready:
                break
            data = os.read(self._told, 1 << 16)
            if not data:
                break
            self._take(data)
            if until(self.sight):
                return True
        return False

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            fields = json.loads(line)
            if "record" in fields:
                self.records = fields["record"] + 1
            else:
                self.sight = Sight(**fields)


@contextmanager
def running(state: Path, world: World | Offline, *, synced: bool = True, recording: bool = False) -> Iterator[Running]:
    told, show = os.pipe()
    process = fork(lambda: _serve(state, world, show, synced=synced, recording=recording))
    os.close(show)
    try:
        yield Running(told)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(told)


def _serve(state: Path, world: World | Offline, show: int, *, synced: bool, recording: bool) -> None:
    if not synced:
        os.fsync = os.fdatasync = lambda handle: None
    state.mkdir(exist_ok=True)
    with ExitStack() as closing:
        device = Device(state, world, closing)
        if recording:
            threading.Thread(target=_record, args=(device, show), daemon=True).start()
        device.serve(show)


def _record(device: Device, show: int) -> None:
    clock, number = SystemClock(), 0
    while True:
        device.store.append([Event(at=clock.now(), kind=_KIND, detail={"number": number})])
        os.write(show, json.dumps({"record": number}).encode() + b"\n")
        number += 1
        time.sleep(_RECORD_S)


def is_torn(state: Path) -> bool:
    """Looks with the agent's own readers, before an agent could mend anything."""
    try:
        journal = Journal(state / "journal.json", State).read()
        Journal(state / "time.json", Witnesses).read()
        for path in (state / "tuf").rglob("*.json"):
            if not path.name.startswith("."):
                json.loads(path.read_bytes())
        if journal is None or journal.active is None:
            return True
        Slots(state / "slots").open(journal.active)
    except (AgentError, ValueError):
        return True
    return False


def recorded(outbox: Path) -> set[int]:
    """The numbers of the records that a reader of the file still finds; none in a damaged one."""
    try:
        with closing(sqlite3.connect(outbox)) as db:
            found = [
                batches.unpack(database.read(db, "", unit.key)) for unit in database.about(db, *database.span(LANES.index(Lane.EVENTS)))
            ]
    except (sqlite3.DatabaseError, ContractError):
        return set()
    records = [decode_record(wire) for content in found for wire in content.records]
    return {record.detail["number"] for record in records if isinstance(record, Event) and record.kind == _KIND}
