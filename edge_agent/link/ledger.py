"""What became of each lane's records, as pure arithmetic: produced = acknowledged + queued + dropped, after every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleet_contract import limits
from fleet_contract.messages import Lane, LaneLedger

LANES = tuple(Lane)
"""In order of priority; a lane's index is its number in the database."""

_LOOKAHEAD = {Lane.EVENTS: 32, Lane.SKETCHES: 0, Lane.TELEMETRY: limits.MAX_BATCH_RECORDS, Lane.SAMPLES: 0}


@dataclass(frozen=True)
class LaneState:
    """`produced` is also the next sequence number. The server may hold any record up to (not including) `sent_below`."""

    produced: int = 0
    acknowledged: int = 0
    queued: int = 0
    queued_bytes: int = 0
    sent_below: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    def added(self, count: int, size: int) -> "LaneState":
        return replace(self, produced=self.produced + count, queued=self.queued + count, queued_bytes=self.queued_bytes + size)

    def refused(self, reason: str) -> "LaneState":
        """A record that was never queued takes a sequence number all the same."""
        return replace(self, produced=self.produced + 1, dropped=_counted(self.dropped, reason, 1))

    def evicted(self, count: int, size: int, reason: str) -> "LaneState":
        return replace(
            self, queued=self.queued - count, queued_bytes=self.queued_bytes - size, dropped=_counted(self.dropped, reason, count)
        )

    def forgotten(self, count: int, size: int) -> "LaneState":
        """The server has them."""
        return replace(self, queued=self.queued - count, queued_bytes=self.queued_bytes - size, acknowledged=self.acknowledged + count)

    def reserved(self, sent_below: int) -> "LaneState":
        return replace(self, sent_below=max(self.sent_below, sent_below))

    def report(self) -> LaneLedger:
        return LaneLedger(produced=self.produced, acknowledged=self.acknowledged, queued=self.queued, dropped=dict(self.dropped))


def look_ahead(lane: Lane, below: int) -> int:
    """The next `sent_below` when all records below `below` go out: a commit for many messages instead of one for each."""
    return below + _LOOKAHEAD[lane]


def clip(ranges: Sequence[tuple[int, int]], below: int) -> list[tuple[int, int]]:
    """The inclusive ranges as far as they were really sent: nobody can acknowledge more."""
    return [(max(first, 0), min(last, below - 1)) for first, last in ranges if first <= last and first < below and last >= 0]


def _counted(dropped: Mapping[str, int], reason: str, count: int) -> dict[str, int]:
    return {**dropped, reason: dropped.get(reason, 0) + count}
