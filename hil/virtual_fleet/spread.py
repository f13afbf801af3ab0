"""How long things took, in a few hundred numbers: counts on a logarithmic scale, which add up over devices and processes."""

import math
from collections.abc import Iterable

import msgspec

_LEAST_S = 1e-4
_PER_DECADE = 40
_DECADES = 8
_BINS = _PER_DECADE * _DECADES
_SCALE = _PER_DECADE / math.log(10)


class Spread(msgspec.Struct):
    """Quantiles are right to 6 %, from 0.1 ms to 10,000 s."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * _BINS)
    longest_s: float = 0.0

    def add(self, took_s: float) -> None:
        place = int(math.log(took_s / _LEAST_S) * _SCALE) if took_s > _LEAST_S else 0
        self.counts[place if place < _BINS else _BINS - 1] += 1
        if took_s > self.longest_s:
            self.longest_s = took_s

    def quantile(self, share: float) -> float | None:
        """In seconds: the upper edge of the bin that the quantile is in; None of nothing."""
        wanted, seen = share * sum(self.counts), 0
        for place, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min(self.longest_s, _LEAST_S * math.exp((place + 1) / _SCALE))
        return None


def merge(spreads: Iterable[Spread]) -> Spread:
    total = Spread()
    for spread in spreads:
        total.counts = [a + b for a, b in zip(total.counts, spread.counts, strict=True)]
        total.longest_s = max(total.longest_s, spread.longest_s)
    return total
