"""How long to wait before the next attempt."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Full jitter: the n-th wait is uniform in (0, min(longest_s, first_s * 2^n))."""

    first_s: float = 0.5
    longest_s: float = 15.0

    def wait_s(self, attempt: int, uniform: Callable[[], float]) -> float:
        return uniform() * min(self.longest_s, self.first_s * 2 ** min(attempt, 16))
