"""What may go up now: the window, the rate, the quiet hours and the share of history, put together. Pure."""

from dataclasses import dataclass

from edge_agent.allowance import Allowance
from edge_agent.link.flights import Flights
from edge_agent.link.window import Window

_LARGEST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Purse:
    """Bytes that may still go: in all, and of history. Without a rate nothing is counted."""

    whole: Allowance | None = None
    history: Allowance | None = None

    def paid(self, size: int, now_s: float, *, of_history: bool) -> "Purse":
        if self.whole is None or self.history is None:
            return self
        return Purse(self.whole.spend(size, now_s), self.history.spend(size if of_history else 0, now_s))

    def affords(self, now_s: float, *, of_history: bool) -> int | None:
        """How many of the largest messages; at least one while there is no debt. None: as many as you like."""
        if self.whole is None or self.history is None:
            return None
        purses = (self.whole, self.history) if of_history else (self.whole,)
        balance = min(purse.spend(0, now_s).balance_bytes for purse in purses)
        return max(1, int(balance // _LARGEST_BYTES)) if balance >= 0 else 0


def purse(rate_bytes_per_s: int | None, history_share: float, now_s: float) -> Purse:
    if rate_bytes_per_s is None:
        return Purse()
    return Purse(Allowance(rate_bytes_per_s, now_s), Allowance(max(1, int(rate_bytes_per_s * history_share)), now_s))


@dataclass(frozen=True)
class Room:
    """Messages that may go now."""

    fresh: int
    history: int


def room(window: Window, flights: Flights, purse: Purse, now_s: float, *, history_share: float, has_history: bool) -> Room:
    """Fresh records may take all that is free but one place, which is history's while any waits; history never more than its share, but at least one
    place. With nothing on its way one may always go."""
    free = max(window.room(len(flights)), 0 if len(flights) else 1)
    most_history = max(1, int(window.size * history_share))
    history = min(free, max(0, most_history - flights.history)) if has_history else 0
    kept = 1 if history and free > 1 and not flights.history else 0
    return Room(_capped(free - kept, purse.affords(now_s, of_history=False)), _capped(history, purse.affords(now_s, of_history=True)))


def _capped(count: int, most: int | None) -> int:
    return count if most is None else min(count, most)
