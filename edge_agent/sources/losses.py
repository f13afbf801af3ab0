"""Inputs that were acquired and are given to nobody, by reason."""

import threading
from collections import Counter


class Losses:
    """For any threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self._counts[reason] += count

    def take(self) -> dict[str, int]:
        """All since the last call."""
        with self._lock:
            taken, self._counts = dict(self._counts), Counter()
        return taken
