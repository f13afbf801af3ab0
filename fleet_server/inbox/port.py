"""Where messages of devices lie, durably and as they came, from before they are acknowledged until the compactor has taken them in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet_server.inbox.segment import Arrival


@dataclass(frozen=True)
class Segment:
    """What one group commit wrote, in its order; or, where that cannot be read any more, its bytes as they are and no arrivals."""

    id: int
    arrivals: list[Arrival]
    damaged: bytes | None = None


@dataclass(frozen=True)
class Backlog:
    """What waits for the compactor. `oldest_at_us` is when the oldest of it was committed, in microseconds since 1970 (None where nothing waits)."""

    segments: int
    messages: int
    bytes: int
    oldest_at_us: int | None

    def age_s(self, now_us: int) -> float:
        """How long the oldest of it has waited."""
        return 0.0 if self.oldest_at_us is None else max(0.0, (now_us - self.oldest_at_us) / 1e6)


class Inbox(Protocol):
    """Ids rise in the order in which commits become visible, also with several writers, and are never given twice: a reader that goes on after the
    last id that it saw misses nothing. Each method raises sqlalchemy.exc.SQLAlchemyError when the database does not do it; then nothing was done,
    but for an `append` whose commit was cut off: that may stand (its messages come again, and are told from new ones by their numbers)."""

    def append(self, arrivals: Sequence[Arrival], at_us: int) -> int:
        """The new segment's id, once it is on the disk."""

    def read(self, after: int, max_bytes: int) -> list[Segment]:
        """Segments with ids above `after`, in their order: as many as hold `max_bytes` of messages, and one even where it is larger."""

    def forget(self, through: int) -> None:
        """Let go of segments up to this id. Safe to repeat."""

    def backlog(self) -> Backlog: ...
