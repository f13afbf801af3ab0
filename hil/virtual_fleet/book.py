"""The ledger of one lane of a virtual device, and what of it is on its way: every record is produced, acknowledged, queued or dropped."""

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from fleet_contract.messages import LaneLedger

DROPPED_QUOTA = "quota"


class Unit(msgspec.Struct):
    """A sealed batch: `wire` is its message, the same whenever it is sent. Times are of the monotonic clock; `sent_s` of the first time."""

    first: int
    count: int
    wire: bytes
    made_s: float
    sent_s: float = 0.0
    sends: int = 0
    resent_s: float = 0.0
    """The last time that it was sent."""


class LaneBook:
    def __init__(self, max_waiting: int) -> None:
        """At most `max_waiting` units that were never sent are kept."""
        self.produced = self.acknowledged = self.dropped = 0
        self._max_waiting = max_waiting
        self._waiting: deque[Unit] = deque()
        self._again: dict[int, Unit] = {}
        self._flying: dict[int, Unit] = {}
        """In the order of sending."""
        self._landed_s = float("-inf")
        """When the newest was sent that has been acknowledged."""

    @property
    def queued(self) -> int:
        return self.produced - self.acknowledged - self.dropped

    @property
    def flying(self) -> int:
        """Units that were sent on this connection and not yet acknowledged."""
        return len(self._flying)

    @property
    def waits(self) -> bool:
        """Whether anything is to be sent."""
        return bool(self._again or self._waiting)

    def add(self, unit: Unit) -> None:
        """What the device has recorded. The oldest unit that was never sent gives way when too many wait: the server may hold the others."""
        self.produced += unit.count
        self._waiting.append(unit)
        if len(self._waiting) > self._max_waiting:
            self.dropped += self._waiting.popleft().count

    def take(self, now_s: float) -> Unit | None:
        """The next unit to send: first what is to be sent again, then in order."""
        if self._again:
            unit = self._again.pop(next(iter(self._again)))
        elif self._waiting:
            unit = self._waiting.popleft()
        else:
            return None
        unit.sends += 1
        if unit.sends == 1:
            unit.sent_s = now_s
        unit.resent_s = now_s
        self._flying[unit.first] = unit
        return unit

    def acknowledge(self, ranges: Iterable[tuple[int, int]]) -> list[Unit]:
        """The units that these inclusive ranges cover; they are forgotten. Ranges of what is long forgotten do nothing."""
        landed = []
        for first, last in ranges:
            for held in (self._flying, self._again):
                covered = [unit for unit in _within(held, first, last) if unit.first + unit.count - 1 <= last]
                for unit in covered:
                    del held[unit.first]
                landed += covered
        self.acknowledged += sum(unit.count for unit in landed)
        self._landed_s = max((unit.resent_s for unit in landed), default=self._landed_s)
        return landed

    def rewind(self) -> int:
        """Everything unacknowledged is to be sent again, in order; returns how many units that are."""
        again = len(self._flying)
        if not again:
            return 0
        self._again = dict(sorted((self._again | self._flying).items()))
        self._flying = {}
        return again

    def overtaken_s(self) -> float:
        """When the oldest on its way was sent, if anything sent later has been acknowledged; else never."""
        oldest = next(iter(self._flying.values()), None)
        return oldest.resent_s if oldest is not None and oldest.resent_s < self._landed_s else float("inf")

    def rewind_overtaken(self, sent_before_s: float) -> None:
        """What was overtaken, and sent before, is to be sent again."""
        late = [unit for unit in self._flying.values() if unit.resent_s < min(self._landed_s, sent_before_s)]
        for unit in late:
            self._again[unit.first] = self._flying.pop(unit.first)

    def report(self) -> LaneLedger:
        held = (*self._flying, *self._again, *(unit.first for unit in list(self._waiting)[:1]))
        oldest = min(held, default=self.produced)
        dropped = {DROPPED_QUOTA: self.dropped} if self.dropped else {}
        return LaneLedger(self.produced, self.acknowledged, self.queued, dropped, oldest)


def _within(held: dict[int, Unit], first: int, last: int) -> Iterator[Unit]:
    exact = held.get(first)
    if exact is not None and exact.first + exact.count - 1 == last:
        return iter((exact,))
    return (unit for unit in held.values() if first <= unit.first <= last)
