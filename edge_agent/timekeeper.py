"""Whether the wall clock can be trusted, said beside every look at it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edge_agent.ports import Clock, Reading
from fleet_contract import limits
from fleet_contract.messages import ClockState

_LOOK_S = 1.0
_JUMP_US = limits.MAX_CLOCK_SKEW_S * 1_000_000


class FlooredClock(Clock, Protocol):
    def behind(self) -> bool:
        """Whether the wall clock is before something that was signed."""


class Timekeeper:
    """A clock that something has set is trusted from then on, through hours without a network too (the kernel calls it unsynchronised after a few),
    until it jumps while nothing disciplines it, or contradicts what was signed. From any thread."""

    def __init__(self, clock: FlooredClock, boot: str, uptime_us: Callable[[], int], is_synchronised: Callable[[], bool]) -> None:
        self._clock, self._boot, self._uptime_us, self._is_synchronised = clock, boot, uptime_us, is_synchronised
        self._lock = threading.Lock()
        self._trusted_us: int | None = None
        self._state: ClockState = "untrusted"
        self._looked_s = float("-inf")

    def reading(self) -> Reading:
        with self._lock:
            found = Reading(self._clock.now(), self._uptime_us(), self._boot, self._state)
            now_s = self._clock.monotonic_s()
            jumped = self._trusted_us is not None and abs(found.offset_us - self._trusted_us) > _JUMP_US
            if not jumped and now_s - self._looked_s < _LOOK_S:
                return found
            self._looked_s = now_s
            self._judge(found.offset_us, jumped)
            return replace(found, state=self._state)

    def state(self) -> ClockState:
        return self.reading().state

    def _judge(self, offset_us: int, jumped: bool) -> None:
        if self._is_synchronised():
            self._trusted_us = offset_us
        elif jumped:
            self._trusted_us = None
        self._state = "trusted" if self._trusted_us is not None and not self._clock.behind() else "untrusted"
