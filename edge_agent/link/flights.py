"""Batches that are on their way and not acknowledged, kept to be sent again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet_contract.messages import Ack, Batch


@dataclass(frozen=True)
class Flight:
    """Sent at `sent_s`; missed after `patience` timeouts, which differ so that a fleet does not repeat itself in step."""

    batch: Batch
    sent_s: float
    patience: float
    is_fresh: bool
    is_again: bool = False


@dataclass(frozen=True)
class Flights:
    """`landed_s` is when the newest of those that were acknowledged had been sent, `repeated_s` when something was last sent again."""

    flying: tuple[Flight, ...] = ()
    landed_s: float = float("-inf")
    repeated_s: float = float("-inf")

    def __len__(self) -> int:
        return len(self.flying)

    @property
    def history(self) -> int:
        return sum(not flight.is_fresh for flight in self.flying)

    def sent(self, flight: Flight) -> "Flights":
        return replace(self, flying=(*self.flying, flight))

    def repeated(self, flight: Flight, now_s: float, patience: float) -> "Flights":
        """The last that flies, under way anew."""
        again = replace(flight, sent_s=now_s, patience=patience, is_again=True)
        return replace(self, flying=(*(other for other in self.flying if other is not flight), again), repeated_s=now_s)

    def landed(self, ack: Ack) -> tuple["Flights", list[Flight]]:
        """What one acknowledged range holds whole: the server acknowledges whole batches, or what it merged of them."""
        home = [flight for flight in self.flying if flight.batch.lane == ack.lane and _covers(ack.ranges, flight.batch)]
        if not home:
            return self, home
        flying = tuple(flight for flight in self.flying if flight not in home)
        return replace(self, flying=flying, landed_s=max(self.landed_s, *(flight.sent_s for flight in home))), home

    def missed(self, now_s: float, timeout_s: float) -> list[Flight]:
        """What must be sent again: what is late although something that was sent after it was acknowledged, else (the far end is silent, perhaps busy)
        the oldest alone, to ask, once in a timeout."""
        late = [flight for flight in self.flying if now_s - flight.sent_s > timeout_s * flight.patience]
        overtaken = [flight for flight in late if flight.sent_s < self.landed_s]
        if overtaken or now_s - self.repeated_s <= timeout_s:
            return overtaken
        return sorted(late, key=lambda flight: flight.sent_s)[:1]

    def waits_since_s(self) -> float | None:
        """When the one that waits longest was sent."""
        return min((flight.sent_s for flight in self.flying), default=None)


def _covers(ranges: Sequence[tuple[int, int]], batch: Batch) -> bool:
    return any(start <= batch.first and batch.last <= end for start, end in ranges)
