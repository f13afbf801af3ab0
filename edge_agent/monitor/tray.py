"""Where answered requests lie until they are recorded. Who puts one there never waits."""

import threading
from collections import Counter
from collections.abc import Callable

from edge_agent.monitor.served import Served
from fleet_contract import limits

QUEUE_FULL = "record-queue-full"


class Tray:
    """For any number of threads that fill it and one that empties it."""

    def __init__(self, max_requests: int = limits.MAX_UNRECORDED_REQUESTS_COUNT, max_bytes: int = limits.MAX_UNRECORDED_BYTES) -> None:
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._changed = threading.Condition(threading.Lock())
        self._waiting: list[Served] = []
        self._bytes = 0
        self._lost: Counter[str] = Counter()
        self._is_closed = False

    def put(self, served: Served) -> None:
        """Takes it, or counts its rows as lost, at once. Its tensors are not changed afterwards by anybody."""
        size = served.held_bytes
        with self._changed:
            if len(self._waiting) >= self._max_requests or self._bytes + size > self._max_bytes:
                self._lost[QUEUE_FULL] += served.rows
                return
            self._waiting.append(served)
            self._bytes += size
            if len(self._waiting) == 1 or self._is_half_full():
                self._changed.notify()

    def refuse(self, reason: str, inputs: int = 1) -> None:
        """So many inputs have no answer, for a reason that is a stable word."""
        with self._changed:
            self._lost[reason] += inputs

    def empty(self) -> tuple[list[Served], Counter[str]]:
        """What was answered, in order, and what was refused or lost, by reason, since the last call."""
        with self._changed:
            served, self._waiting, self._bytes = self._waiting, [], 0
            lost, self._lost = self._lost, Counter()
        return served, lost

    def wait(self, longest_s: float, gather_s: float) -> bool:
        """Until something lies there, `longest_s` at most; and then `gather_s` for more, unless room gets short. Whether it is closed."""
        with self._changed:
            if self._wait(lambda: bool(self._waiting), longest_s):
                self._wait(self._is_half_full, gather_s)
            return self._is_closed

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _wait(self, holds: Callable[[], bool], longest_s: float) -> bool:
        return self._changed.wait_for(lambda: self._is_closed or holds(), longest_s)

    def _is_half_full(self) -> bool:
        return 2 * len(self._waiting) >= self._max_requests or 2 * self._bytes >= self._max_bytes
