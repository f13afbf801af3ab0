"""The loop that empties the inbox into the lake. One at a time: the watermark refuses a second, and a lock keeps it from starting."""

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fleet_contract import limits
from fleet_contract.backoff import Backoff
from fleet_server import storage
from fleet_server.domain.twins import Memory
from fleet_server.errors import Conflict, brief
from fleet_server.inbox.port import Inbox, Segment
from fleet_server.lake import catalogue, damaged, forgetting, suspicion, turn
from fleet_server.lake.keeping import Keeper
from fleet_server.lake.turn import Lake, Taken
from fleet_server.services import deletion, figures
from fleet_server.services.figures import CompactorFigures

log = logging.getLogger(__name__)

NAME = "compactor"
_MAX_READ_BYTES = 24 * limits.MIB
"""Of messages in a turn, as they came."""
_PATIENCE_TURNS = 3
"""After so many failures it is looked for a message that no turn can take."""
_INTERVAL_S = 0.25
_MAX_INTERVAL_S = 2.0
_WRITTEN_DOWN_S = 1.0
"""How often the figures and the time of being caught up are written while nothing comes."""


class Compactor:
    """`turn` may be called by one thread at a time."""

    def __init__(self, lake: Lake, inbox: Inbox, keeper: Keeper, now: Callable[[], datetime]) -> None:
        self._lake, self._inbox, self._keeper, self._now = lake, inbox, keeper, now
        self._twins = Memory()
        self.figures = CompactorFigures()
        self._written = -_WRITTEN_DOWN_S
        self._pause_s = _INTERVAL_S

    def turn(self, *, careful: bool = False) -> bool:
        """Take in what waits, a turn's worth; whether there may be more. A `careful` one takes one segment, without what cannot be stored.
        Raises OSError, SQLAlchemyError or Conflict: then it is to be repeated."""
        began, monotonic = self._now(), time.monotonic()
        after = catalogue.watermark(self._lake.engine)
        segments, emptied = (self._inbox.read(after, 1), False) if careful else self._read(after)
        if not segments:
            self._pause_s = _INTERVAL_S
            self._write_down(after, began, monotonic)
            return False
        unreadable = damaged.set_aside(self._lake.home, segments)
        caught_up_at = began if emptied else None
        suspects = suspicion.culprits(self._lake, segments[0], after, began) if careful else frozenset()
        taken = turn.take(self._lake, segments, after, began, twins=self._twins, caught_up_at=caught_up_at, suspects=suspects)
        self._inbox.forget(segments[-1].id)
        if emptied:
            self._forget_deleted()
        seconds = time.monotonic() - monotonic
        self._pause_s = min(max(seconds, _INTERVAL_S), _MAX_INTERVAL_S)  # fewer and larger turns, the more there is to do
        self.figures.malformed += unreadable
        self._count(taken, segments, seconds)
        self._write_figures(monotonic)
        return not emptied

    def run(self, stop: threading.Event, backoff: Backoff = Backoff(0.5, 15.0)) -> None:
        """Until `stop` is set. What an interrupted turn left in the folder goes first."""
        failures = 0
        sweep = True
        while not stop.is_set():
            try:
                if sweep:
                    self._keeper.sweep()
                sweep = failures >= _PATIENCE_TURNS  # what a careful turn tries lies there, too
                more = self.turn(careful=sweep)
                self._keeper.keep(self.figures)
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever spoils one turn, the next sees the same inbox again
                log.error("a turn failed: %s", brief(error))
                failures, more, sweep = failures + 1, False, True
            if not more:
                stop.wait(backoff.wait_s(failures - 1, lambda: 1.0) if failures else self._pause_s)

    def _read(self, after: int) -> tuple[list[Segment], bool]:
        """What waits, up to a turn's worth; and whether that was all."""
        found: list[Segment] = []
        size = 0
        while size < _MAX_READ_BYTES:
            more = self._inbox.read(found[-1].id if found else after, _MAX_READ_BYTES - size)
            if not more:
                return found, True
            found += more
            size += sum(len(arrival.payload) for segment in more for arrival in segment.arrivals)
        return found, False

    def _forget_deleted(self) -> None:
        """Nothing of a deleted device is on its way any more: what waited in the inbox was refused, with the device unknown."""
        for device in deletion.pending(self._lake.engine):
            rows = forgetting.forget_device(self._lake, device)
            deletion.finish(self._lake.engine, self._lake.home, device, self._now(), lake_rows=rows)
            log.info("%s is deleted: %d inferences of it are out of the lake", device, rows)

    def _write_down(self, watermark: int, caught_up_at: datetime, monotonic: float) -> None:
        if monotonic - self._written >= _WRITTEN_DOWN_S:
            self._forget_deleted()
            catalogue.caught_up(self._lake.engine, watermark, caught_up_at)
            self.figures.lag_s = 0.0
            self._write_figures(monotonic)

    def _write_figures(self, monotonic: float) -> None:
        if monotonic - self._written >= _WRITTEN_DOWN_S:
            self._written = monotonic
            figures.publish(self._lake.engine, NAME, self.figures, self._now())

    def _count(self, taken: Taken, segments: list[Segment], seconds: float) -> None:
        told = self.figures
        told.segments += len(segments)
        told.rows += taken.new.total()
        told.duplicates += taken.duplicates
        told.malformed += taken.malformed + taken.refused.total()
        told.turns.note(seconds)
        oldest = min((arrival.received_at_us for segment in segments for arrival in segment.arrivals), default=0)
        told.lag_s = max(0.0, self._now().timestamp() - oldest / 1e6)
        if taken.refused:
            log.warning("messages that belong to no stream: %s", dict(taken.refused))


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Be the lake's only compactor. Raises Conflict where another runs."""
    storage.make_folder(root, 0o700)
    with (root / "compactor.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"a compactor already runs on {root}", field="home") from error
        yield
