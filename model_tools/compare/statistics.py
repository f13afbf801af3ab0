"""How sure a measured difference is. All intervals are of 95 % and all draws are seeded."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Test = Literal["McNemar's exact test", "Wilcoxon's signed-rank test", "sign flips of whole groups"]
_Z = 1.959964
_DRAWS = 2_000
_AUC_DRAWS = 400
_FLIPS = 999
_ROUNDING = 1e-9
_LEAST_UNITS = 5
"""Fewer say too little of how units vary."""


@dataclass(frozen=True)
class Interval:
    """`low` and `high` hold the true value in 95 of 100 such tests; `way` says how they were found."""

    value: float
    low: float
    high: float
    way: str = ""


def wilson(hits: int, rows: int) -> Interval:
    """Of a share (Wilson 1927): right also near 0 and 1, where a bootstrap collapses."""
    if not rows:
        return Interval(math.nan, math.nan, math.nan, "Wilson")
    share, z2 = hits / rows, _Z**2
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z / (1 + z2 / rows) * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), "Wilson")


def paired_shares(one: np.ndarray, other: np.ndarray) -> Interval:
    """Of share(other) - share(one) on the same rows (Agresti and Min 2005: half a row is added to each of the four cells), so that no
    difference seen is not taken for none there."""
    rows = len(one)
    value = float(other.mean() - one.mean()) if rows else math.nan
    won, lost, n = float((~one & other).sum()) + 0.5, float((one & ~other).sum()) + 0.5, rows + 2
    middle = (won - lost) / n
    half = _Z * math.sqrt(max(0.0, won + lost - (won - lost) ** 2 / n)) / n
    return Interval(value, max(-1.0, middle - half), min(1.0, middle + half), "Agresti-Min")


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """The chance of so uneven a split of the rows that only one of two equally good models answers rightly: exact, two-sided; 1 without such rows."""
    from scipy.stats import binomtest

    won, lost = int((~one & other).sum()), int((one & ~other).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def signed_rank(one: np.ndarray, other: np.ndarray) -> float:
    """Wilcoxon 1945, two-sided, of paired numbers; 1 where none differ."""
    from scipy.stats import wilcoxon

    differences = np.asarray(other, np.float64) - one
    return float(wilcoxon(differences, method="approx" if len(differences) > 50 else "auto").pvalue) if differences.any() else 1.0


def sign_flips(one: np.ndarray, other: np.ndarray, units: np.ndarray, seed: int) -> float:
    """As the two above where rows are not independent: the share of 999 draws, each turning whole units around, that differ as much (Fisher 1935).
    Of few units it cannot be small: of 3 it is at least 1/4."""
    sums = np.bincount(units, np.asarray(other, np.float64) - one)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    signs = np.random.default_rng(seed).integers(0, 2, (_FLIPS, len(sums)), np.int8) * 2 - 1
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) * (1 - _ROUNDING)
    return float((1 + as_far.sum()) / (1 + _FLIPS))


def holm(chances: list[float]) -> list[float]:
    """The same chances when so many were looked at (Holm 1979)."""
    order = np.argsort(chances, kind="stable")
    corrected, most = [0.0] * len(chances), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(chances) - rank) * chances[at]))
        corrected[at] = most
    return corrected


def draws(units: np.ndarray, seed: int, times: int) -> np.ndarray:
    """int64 (times, units): how often each unit is in a resample of as many units. A unit is what varies on its own: a row, a machine, a stretch of time."""
    count = int(units.max()) + 1
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=times)


def bootstrap(measure: Callable[[np.ndarray], float], units: np.ndarray, seed: int, *, slow: bool = False) -> Interval:
    """Percentiles over resamples of whole units (Efron 1979). `measure` takes rows' weights, whole numbers. `slow`: fewer draws."""
    value = measure(np.ones(len(units)))
    if len(units) == 0 or units.max() + 1 < _LEAST_UNITS:
        return Interval(value, math.nan, math.nan, f"fewer than {_LEAST_UNITS} independent units")
    found = np.array([measure(counts[units].astype(np.float64)) for counts in draws(units, seed, _AUC_DRAWS if slow else _DRAWS)])
    found = found[np.isfinite(found)]
    if not len(found):
        return Interval(value, math.nan, math.nan, "bootstrap")
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(value, float(low), float(high), "bootstrap")


def weighted_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """The area under the ROC curve, ties counting half; NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    ranked, positive, weight = scores[order], labels[order] == 1, weights[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    normal = np.add.reduceat(np.where(positive, 0.0, weight), starts)
    odd = np.add.reduceat(np.where(positive, weight, 0.0), starts)
    if not normal.sum() or not odd.sum():
        return math.nan
    below = np.cumsum(normal) - normal
    return float((odd * (below + normal / 2)).sum() / (normal.sum() * odd.sum()))
