"""Which part of an activation's values the 256 steps of int8 should cover: pure rules from a histogram to two bounds.

percentile: McKinstry et al. 2018 (arXiv 1809.04191); entropy: least Kullback-Leibler divergence (Migacz 2017); mse: least expected squared error.
"""

from dataclasses import dataclass

import numpy as np

from model_tools.sections import RangeRule

_STEPS = 255
_TAIL = 1e-4
_SHARES = np.linspace(0.1, 1.0, 91)
"""Of each side of the whole range."""
_ROUNDS = 3


@dataclass(frozen=True)
class Histogram:
    """`counts` int64 (bins,) of values that lie evenly between `low` and `high`."""

    counts: np.ndarray
    low: float
    high: float

    @property
    def centres(self) -> np.ndarray:
        width = (self.high - self.low) / len(self.counts)
        return self.low + (np.arange(len(self.counts)) + 0.5) * width


def choose_range(rule: RangeRule, seen: Histogram) -> tuple[float, float]:
    """Two bounds, never outside those of the histogram, that hold 0, as int8 must."""
    whole = min(seen.low, 0.0), max(seen.high, 0.0)
    if rule == "minmax" or not whole[1] > whole[0]:
        return whole
    if rule == "percentile":
        return _percentile(seen, *whole)
    return _least_error(seen, *whole) if rule == "mse" else _least_divergence(seen, *whole)


def _percentile(seen: Histogram, low: float, high: float) -> tuple[float, float]:
    passed = np.cumsum(seen.counts) / seen.counts.sum()
    first, last = (int(np.searchsorted(passed, share)) for share in (_TAIL, 1 - _TAIL))
    width = (seen.high - seen.low) / len(seen.counts)
    return max(low, min(0.0, seen.low + first * width)), min(high, max(0.0, seen.low + (last + 1) * width))


def _least_error(seen: Histogram, low: float, high: float) -> tuple[float, float]:
    """One side after the other, until neither moves."""
    best = (low, high)
    for _ in range(_ROUNDS):
        before = best
        best = min(((best[0], share * high) for share in _SHARES), key=lambda b: _error(seen, *b))
        best = min(((share * low, best[1]) for share in _SHARES), key=lambda b: _error(seen, *b))
        if best == before:
            break
    return best


def _error(seen: Histogram, low: float, high: float) -> float:
    """Of rounding within and of clipping without; 0, which a ReLU gives most often, is never rounded."""
    at, counts = seen.centres, seen.counts
    cut = np.square(at - np.clip(at, low, high)) @ counts
    rounded = counts[(at >= low) & (at <= high)].sum() - counts[np.abs(at).argmin()]
    return float(cut + rounded * ((high - low) / _STEPS) ** 2 / 12)


def _least_divergence(seen: Histogram, low: float, high: float) -> tuple[float, float]:
    return min(((share * low, share * high) for share in _SHARES[::-1]), key=lambda bounds: _divergence(seen, *bounds))


def _divergence(seen: Histogram, low: float, high: float) -> float:
    """Of what the steps can tell from what was there, in nats."""
    at, counts = seen.centres, seen.counts.astype(np.float64)
    counts[np.abs(at).argmin()] = 0  # what a ReLU cuts off is exact at any scale
    inside = (at >= low) & (at <= high)
    if not counts[inside].any():
        return np.inf
    there = counts[inside]
    step = ((at[inside] - low) * (_STEPS / (high - low))).astype(np.int64)
    filled = there > 0
    told = np.bincount(step, there, _STEPS + 1) / np.maximum(np.bincount(step, filled, _STEPS + 1), 1)
    told = told[step] * filled
    there = there.copy()
    there[0] += counts[at < low].sum()
    there[-1] += counts[at > high].sum()
    present = there > 0
    shares, told = there[present] / there.sum(), told[present] / told.sum()
    return float((shares * np.log(shares / np.maximum(told, 1e-12))).sum())
