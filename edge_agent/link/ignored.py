"""Messages from the server's side that this device could not use: counted by reason, and told to the server as events."""

import threading
from collections import Counter

from edge_agent.ports import Clock, Store
from fleet_contract.messages import Event

KIND = "message.ignored"
PAUSE_S = 60.0
"""Whoever floods the device makes it record one event a minute."""


class Ignored:
    """`note` from any thread; `tell` from one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._told_s = float("-inf")

    def note(self, code: str) -> None:
        with self._lock:
            self._counts[code] += 1

    def tell(self, *, last: bool = False) -> None:
        """Record what was noted since the event before, unless that was less than PAUSE_S ago and this is not the `last` chance."""
        now_s = self._clock.monotonic_s()
        if not self._counts or (now_s - self._told_s < PAUSE_S and not last):
            return
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if self._store.submit([Event(at=self._clock.now(), kind=KIND, detail=dict(counts))]):
            self._told_s = now_s
        else:
            with self._lock:
                self._counts.update(counts)
