"""Time for a board without a clock: never earlier than what was signed. The wall clock can be wrong either way, and never raises the floor."""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from edge_agent.errors import Reject
from edge_agent.ports import Clock
from edge_agent.storage.journal import Journal
from fleet_contract import limits

log = logging.getLogger(__name__)

_SKEW = timedelta(seconds=limits.MAX_CLOCK_SKEW_S)
_AHEAD = timedelta(days=400)
"""A clock so far beyond everything signed is more likely wrong than the fleet asleep."""


class Witness(msgspec.Struct, frozen=True):
    """The newest time that the holders of `keys` have signed."""

    at: datetime
    keys: Sequence[str] = ()


class Witnesses(msgspec.Struct, frozen=True):
    by_source: Mapping[str, Witness] = {}


class TrustedTime:
    """Implements ports.Clock. The floor is the newest of `built_at` and every witness, goes on with the monotonic clock while the process lives,
    and is durable. From any thread."""

    def __init__(self, path: Path, clock: Clock, built_at: datetime) -> None:
        """Raises Retry (disk)."""
        self._clock, self._built_at = clock, built_at
        self._journal = Journal(path, Witnesses)
        self._lock = threading.Lock()
        self._kept = self._read()
        self._floor, self._since_s = self._newest(), clock.monotonic_s()

    def now(self) -> datetime:
        """The wall clock's time, or the floor while the clock is behind it."""
        return max(self._clock.now(), self.floor())

    def floor(self) -> datetime:
        """It is at least so late."""
        with self._lock:
            return self._at()

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def behind(self) -> bool:
        """Whether the wall clock is known to be wrong: well before something that was signed."""
        return self._clock.now() + _SKEW < self.floor()

    def offset_s(self) -> float:
        """Constant while nobody sets the wall clock."""
        return self._clock.now().timestamp() - self._clock.monotonic_s()

    def doubt(self) -> str:
        """For a message that something is expired: why the clock may be to blame; empty when nothing says so."""
        clock, floor = self._clock.now(), self.floor()
        if clock < floor + _AHEAD:
            return ""
        return f" (the clock says {clock:%Y-%m-%d}, the newest signed time is {floor:%Y-%m-%d}: is the clock right?)"

    def raise_floor(self, at: datetime, source: str, keys: Sequence[str] = ()) -> None:
        """A verified signature of `keys` says that it is `at`. Durable afterwards. Raises Retry (disk)."""
        with self._lock:
            kept = self._kept.by_source
            known = kept.get(source)
            if known is not None and sorted(keys) == list(known.keys) and at <= known.at:
                return
            self._keep(Witnesses({**kept, source: Witness(at, sorted(keys))}))
            self._advance(at)

    def forget(self, source: str, keys: Sequence[str]) -> None:
        """Drop what other keys than these have said as this source: they were replaced, perhaps because they lied. Raises Retry (disk)."""
        with self._lock:
            kept = self._kept.by_source
            known = kept.get(source)
            if known is None or sorted(keys) == list(known.keys):
                return
            self._keep(Witnesses({name: witness for name, witness in kept.items() if name != source}))
            self._floor, self._since_s = self._newest(), self._clock.monotonic_s()

    def _read(self) -> Witnesses:
        try:
            return self._journal.read() or Witnesses()
        except Reject as error:
            log.error("the signed time is lost: %s", error)
            return Witnesses()

    def _keep(self, witnesses: Witnesses) -> None:
        self._journal.write(witnesses)
        self._kept = witnesses

    def _newest(self) -> datetime:
        return max([self._built_at, *(witness.at for witness in self._kept.by_source.values())])

    def _at(self) -> datetime:
        return self._floor + timedelta(seconds=max(0.0, self._clock.monotonic_s() - self._since_s))

    def _advance(self, at: datetime) -> None:
        if at > self._at():
            self._floor, self._since_s = at, self._clock.monotonic_s()
