"""An outbox in a process of its own that is killed, or whose power is cut, while it appends and hands out: what was acknowledged has to be there."""

import os
import random
import select
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import readings
from bench.disk import Disks
from edge_agent.errors import Retry
from edge_agent.outbox import database
from edge_agent.outbox.lanes import LANES
from edge_agent.outbox.store import Outbox
from fleet_contract import batches, columns
from fleet_contract.errors import ContractError
from fleet_contract.messages import Lane, Result

_GROUP = 25
_KILL_AFTER_RECORDS = 500
_MOMENT_S = 0.02
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Ending:
    runs: int
    acknowledged: int
    lost: int


class _Writer:
    """A process that appends numbered results from `first` on and tells how many are acknowledged."""

    def __init__(self, path: Path, first: int, *, synced: bool) -> None:
        self._told, tell = os.pipe()
        self.acknowledged, self._rest = first, b""
        self._pid = os.fork()
        if self._pid == 0:
            _write(path, first, tell, synced=synced)
        os.close(tell)

    def watch(self, records: int, for_s: float) -> None:
        """Until so many are acknowledged, or the time is over."""
        end_s = time.monotonic() + for_s
        while self.acknowledged < records and (left_s := end_s - time.monotonic()) > 0:
            ready, _, _ = select.select([self._told], [], [], left_s)
            if ready and not self._hear():
                raise RuntimeError("the process that writes has ended by itself")

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        while self._hear():
            pass
        os.close(self._told)

    def _hear(self) -> bool:
        data = os.read(self._told, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self.acknowledged = int(lines[-1])
        return bool(data)


@contextmanager
def _writing(path: Path, first: int, *, synced: bool = True) -> Iterator[_Writer]:
    writer = _Writer(path, first, synced=synced)
    try:
        yield writer
    finally:
        writer.kill()


def kill(folder: Path, runs: int, chance: random.Random) -> Ending:
    """The same outbox again and again."""
    path, acknowledged = folder / "killed.db", 0
    for _ in range(runs):
        with _writing(path, acknowledged) as writer:
            writer.watch(acknowledged + _KILL_AFTER_RECORDS, _PATIENCE_S)
            writer.watch(1 << 60, chance.uniform(0, _MOMENT_S))
        acknowledged = writer.acknowledged
    return Ending(runs, acknowledged, len(set(range(acknowledged)) - _kept(path)))


def cut(folder: Path, made: Disks, runs: int, chance: random.Random, *, synced: bool = True) -> Ending:
    """A new disk each time."""
    acknowledged = lost = 0
    for number in range(runs):
        image, copy = made.new(f"outbox-{synced}-{number}.img"), folder / "copy.img"
        with made.mounted(image, folder / "mount") as at, _writing(at / "outbox.db", 0, synced=synced) as writer:
            writer.watch(_GROUP, _PATIENCE_S)
            writer.watch(1 << 60, chance.uniform(0, 0.2))
            told = writer.acknowledged
            made.cut(image, copy)
        with made.mounted(copy, folder / "mount") as at:
            lost += len(set(range(told)) - _kept(at / "outbox.db"))
        acknowledged += told
        image.unlink()
    return Ending(runs, acknowledged, lost)


def _kept(path: Path) -> set[int]:
    """The numbers that an outbox finds which opens the file; none of one that it sets aside."""
    try:
        with closing(Outbox(path, new_epoch=lambda: "new", read=readings.read)):
            pass
        with closing(sqlite3.connect(path)) as db:
            units = list(database.about(db, *database.span(LANES.index(Lane.TELEMETRY))))
            found = [columns.to_results(batches.unpack(database.read(db, "", unit.key))) for unit in units]
    except (Retry, sqlite3.Error, ContractError):
        return set()
    return {int(result.input_id) for results in found for result in results}


def _write(path: Path, first: int, tell: int, *, synced: bool) -> None:
    """Never returns."""
    try:
        outbox = Outbox(path, new_epoch=lambda: "bench", read=readings.read)
        if not synced:
            outbox._shelf._db.execute("PRAGMA synchronous=OFF")
        threading.Thread(target=_hand_out, args=(outbox,), daemon=True).start()
        at = readings.read().at
        while True:
            outbox.append([Result(at, "b" * 64, str(number), None, 0.0, 1) for number in range(first, first + _GROUP)])
            first += _GROUP
            os.write(tell, b"%d\n" % first)
    finally:
        os._exit(1)


def _hand_out(outbox: Outbox) -> None:
    while True:
        outbox.batches(8)
        time.sleep(0.002)
