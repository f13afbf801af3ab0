"""One download's manners at work: it rests, and it stops when it is not wanted any more."""

import threading
from collections.abc import Callable

from edge_agent.allowance import Allowance
from edge_agent.delivery.pace import Manners
from edge_agent.errors import Retry
from edge_agent.ports import Clock

_SLICE_S = 0.25
_LONGEST_BUSY_S = 5.0
"""Telemetry that cannot be sent at all must not stop an update for ever."""


class Pacer:
    """`rested_s` is what was spent waiting on purpose."""

    def __init__(
        self, manners: Manners, clock: Clock, *, wanted: Callable[[], bool], busy: Callable[[], bool], closing: threading.Event
    ) -> None:
        self.manners = manners
        self._clock, self._wanted, self._busy, self._closing = clock, wanted, busy, closing
        rate = manners.rate_bytes_per_s
        self._allowance = Allowance(rate, clock.monotonic_s()) if rate else None
        self.rested_s = 0.0

    def check(self) -> None:
        """Raises Retry: superseded, closing, or window."""
        if self._closing.is_set():
            raise Retry("the agent ends", code="closing")
        if not self._wanted():
            raise Retry("another order came", code="superseded")
        window = self.manners.window
        if window and not window.is_open(self._clock.now()):
            raise Retry(f"downloads may go on at {window.begin:%H:%M} UTC", code="window")  # no countdown: status.json would change with it

    @property
    def busy(self) -> bool:
        """Whether records wait longer than they should."""
        return self._busy()

    def before_request(self) -> None:
        """Let records go first, for a bounded time. Raises Retry as `check` does."""
        self.check()
        waited_s = 0.0
        while waited_s < _LONGEST_BUSY_S and self._busy():
            self.rest(_SLICE_S)
            waited_s += _SLICE_S

    def took(self, count_bytes: int) -> None:
        """Rest until these bytes are within the allowance. Raises Retry as `check` does."""
        self.check()
        if self._allowance is not None:
            self._allowance = self._allowance.spend(count_bytes, self._clock.monotonic_s())
            self.rest(self._allowance.wait_s)

    def rest(self, wait_s: float) -> None:
        """Raises Retry as `check` does."""
        while wait_s > 0:
            slice_s = min(wait_s, _SLICE_S)
            self._closing.wait(slice_s)
            self.rested_s += slice_s
            wait_s -= slice_s
            self.check()
