"""Batches that are on their way and not acknowledged, kept to be sent again. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from edge_agent.link.window import Timeout
from edge_agent.ports import Sent
from fleet_contract.messages import Ack, Batch

_ASK_S, _ASK_DOUBLINGS = 1.0, 5
"""While the broker says that nobody listens one message asks again, after a second at first and half a minute later."""


@dataclass(frozen=True)
class Flight:
    """Sent at `sent_s`; missed after `patience` timeouts, which differ so that a fleet does not repeat itself in step."""

    batch: Batch
    sent_s: float
    patience: float
    is_fresh: bool
    is_again: bool = False
    overtaken_s: float | None = None
    """When something that was sent after it was first acknowledged."""
    handed: Sent | None = None
    is_unheard: bool = False
    """It went to nobody: the far end is not busy, but away."""


@dataclass(frozen=True)
class Flights:
    """`repeated_s` is when something was last sent again into silence, `asked` how often in a row what went to nobody."""

    flying: tuple[Flight, ...] = ()
    repeated_s: float = float("-inf")
    asked: int = 0

    def __len__(self) -> int:
        return len(self.flying)

    @property
    def history(self) -> int:
        return sum(not flight.is_fresh for flight in self.flying)

    def sent(self, flight: Flight) -> "Flights":
        return replace(self, flying=(*self.flying, flight))

    def repeated(self, flight: Flight, now_s: float, patience: float, handed: Sent | None = None) -> "Flights":
        """The last that flies, under way anew."""
        again = Flight(flight.batch, now_s, patience, flight.is_fresh, is_again=True, handed=handed)
        asked = self.asked + (flight.is_unheard and flight.overtaken_s is None)
        return Flights((*(other for other in self.flying if other is not flight), again), now_s, asked)

    def unheard(self, found: Collection[Flight]) -> "Flights":
        """These went to nobody."""
        return replace(self, flying=tuple(replace(flight, is_unheard=True) if flight in found else flight for flight in self.flying))

    def landed(self, ack: Ack, came_s: float) -> tuple["Flights", list[Flight]]:
        """What one acknowledged range holds whole: the server acknowledges whole batches, or what it merged of them."""
        home = [flight for flight in self.flying if flight.batch.lane == ack.lane and _covers(ack.ranges, flight.batch)]
        if not home:
            return self, home
        newest_s = max(flight.sent_s for flight in home)
        left = (flight for flight in self.flying if flight not in home)
        return replace(self, flying=tuple(_passed(flight, newest_s, came_s) for flight in left), asked=0), home

    def missed(self, now_s: float, timeout: Timeout) -> list[Flight]:
        """What must be sent again: what is late although something sent after it was acknowledged a while ago; else the smallest of what went to
        nobody, to ask; else (the far end is silent, perhaps busy) the oldest of the rest, to ask, once in a timeout."""
        lost = [flight for flight in self.flying if _is_lost(flight, now_s, timeout)]
        return lost or self._asking(now_s) or self._late(now_s, timeout.value_s)

    def _asking(self, now_s: float) -> list[Flight]:
        wait_s = _ASK_S * 2 ** min(self.asked, _ASK_DOUBLINGS)
        due = [
            flight for flight in self.flying if flight.is_unheard and now_s - max(flight.sent_s, self.repeated_s) > wait_s * flight.patience
        ]
        return sorted(due, key=lambda flight: len(flight.batch.data))[:1]

    def _late(self, now_s: float, silence_s: float) -> list[Flight]:
        if now_s - self.repeated_s <= silence_s:
            return []
        late = [flight for flight in self.flying if not flight.is_unheard and now_s - flight.sent_s > silence_s * flight.patience]
        return sorted(late, key=lambda flight: flight.sent_s)[:1]

    def waits_since_s(self) -> float | None:
        """When the one that waits longest was sent."""
        return min((flight.sent_s for flight in self.flying), default=None)


def _covers(ranges: Sequence[tuple[int, int]], batch: Batch) -> bool:
    return any(start <= batch.first and batch.last <= end for start, end in ranges)


def _passed(flight: Flight, newest_s: float, came_s: float) -> Flight:
    return replace(flight, overtaken_s=came_s) if flight.overtaken_s is None and flight.sent_s < newest_s else flight


def _is_lost(flight: Flight, now_s: float, timeout: Timeout) -> bool:
    """The far end answers: however long it was silent before, it has had its time. It is there again for what went to nobody."""
    if flight.overtaken_s is not None and flight.is_unheard:
        return True
    if flight.overtaken_s is None or now_s - flight.overtaken_s <= timeout.grace_s:
        return False
    return now_s - flight.sent_s > timeout.base_s * flight.patience
