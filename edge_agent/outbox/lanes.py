"""What became of each lane's records, as pure arithmetic: produced = acknowledged + queued + dropped, after every step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fleet_contract.messages import Lane, LaneLedger

LANES = tuple(Lane)
"""In order of priority; a lane's index is its number in the database."""


@dataclass(frozen=True)
class LaneState:
    """`produced` is also the next sequence number; `queued_bytes` is what the queued ones take in the database."""

    produced: int = 0
    acknowledged: int = 0
    queued: int = 0
    queued_bytes: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    def added(self, count: int, size: int) -> "LaneState":
        return replace(self, produced=self.produced + count, queued=self.queued + count, queued_bytes=self.queued_bytes + size)

    def refused(self, reason: str, count: int = 1) -> "LaneState":
        """Records that were never queued take their sequence numbers all the same."""
        return replace(self, produced=self.produced + count, dropped=_counted(self.dropped, reason, count))

    def evicted(self, count: int, size: int, reason: str) -> "LaneState":
        return replace(
            self, queued=self.queued - count, queued_bytes=self.queued_bytes - size, dropped=_counted(self.dropped, reason, count)
        )

    def resized(self, more_bytes: int) -> "LaneState":
        """The same records take more, or less, than before."""
        return replace(self, queued_bytes=self.queued_bytes + more_bytes)

    def forgotten(self, count: int, size: int) -> "LaneState":
        """The server has them."""
        return replace(self, queued=self.queued - count, queued_bytes=self.queued_bytes - size, acknowledged=self.acknowledged + count)

    def report(self, oldest: int | None) -> LaneLedger:
        """`oldest` is the lowest number that is queued; None where none is."""
        return LaneLedger(
            produced=self.produced,
            acknowledged=self.acknowledged,
            queued=self.queued,
            dropped=dict(self.dropped),
            oldest=self.produced if oldest is None else oldest,
        )


def _counted(dropped: Mapping[str, int], reason: str, count: int) -> dict[str, int]:
    return {**dropped, reason: dropped.get(reason, 0) + count} if count else dict(dropped)
