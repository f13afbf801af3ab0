"""Has a window of a device's inputs left every condition that its model was made for? Pure.

Each feature's histogram is compared with that of each condition by the Kolmogorov-Smirnov distance D. Binning can only lower D, and
P(D >= d) <= e * exp(-2 d^2 n m / (n + m)) for two samples of sizes n and m, whatever their distribution (the two-sample
Dvoretzky-Kiefer-Wolfowitz bound of Wei and Dudley, 2012, with the constant e that holds for small samples too).

The policy's chance of a false alarm is spent over all windows to come (6 / (pi^2 k^2) of it on window k) and shared among the features
compared. By the union bound it thus holds for a device's whole life on a bundle, however dependent its windows are. Asking for several
drifted windows in a row, and for a least effect, only lowers it.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from fleet_contract.manifest import DriftPolicy
from fleet_contract.sketch import Condition, Reference, Sketch, counts_of


class Verdict(StrEnum):
    HEALTHY = "healthy"
    DRIFTED = "drifted"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class FeatureTest:
    """`effect` is the Kolmogorov-Smirnov distance, `p_value` a bound from above on its chance in a healthy window."""

    feature: str
    effect: float
    p_value: float
    deviates: bool


@dataclass(frozen=True)
class Judgement:
    """`features` are the tests against the `closest` condition, the most deviating first; `level` is what each p-value was held to."""

    verdict: Verdict
    closest: str
    level: float
    features: tuple[FeatureTest, ...]


def judge(window: Sketch, reference: Reference, policy: DriftPolicy, position: int) -> Judgement:
    """Judge the `position`-th window (from 1) of a device on a bundle: drifted when it fits no condition. Raises BadSketch."""
    counts = counts_of(window, reference.grid)
    against = [_compare(counts, condition, reference, policy, position) for condition in reference.conditions]
    return min(against, key=lambda judgement: (_deviating(judgement), _largest_effect(judgement)))


def streak(before: int, verdict: Verdict) -> int:
    """How many drifted windows in a row there are after one more. An unreadable window says nothing."""
    if verdict is Verdict.UNREADABLE:
        return before
    return before + 1 if verdict is Verdict.DRIFTED else 0


def alarms(drifted_in_a_row: int, policy: DriftPolicy) -> bool:
    return drifted_in_a_row >= policy.windows


def spent_on(position: int, false_alarms: float) -> float:
    """The share of the false-alarm chance that window `position` may use; all of them together sum to `false_alarms`."""
    return false_alarms * 6 / (np.pi**2 * position**2)


def _compare(counts: np.ndarray, condition: Condition, reference: Reference, policy: DriftPolicy, position: int) -> Judgement:
    expected = counts_of(condition.sketch, reference.grid)
    spoken_for = {*condition.features}
    rows = [at for at, feature in enumerate(reference.grid.features) if feature.name in spoken_for]
    level = spent_on(position, policy.false_alarms) / max(1, len(rows))
    tests = [_test(reference.grid.features[at].name, counts[at], expected[at], policy.min_effect, level) for at in rows]
    tests.sort(key=lambda test: (not test.deviates, -test.effect))
    verdict = Verdict.DRIFTED if any(test.deviates for test in tests) else Verdict.HEALTHY
    return Judgement(verdict, condition.name, level, tuple(tests))


def _test(feature: str, seen: np.ndarray, expected: np.ndarray, min_effect: float, level: float) -> FeatureTest:
    n, m = int(seen.sum()), int(expected.sum())
    if n == 0 or m == 0:
        return FeatureTest(feature, 0.0, 1.0, False)
    effect = float(np.abs(np.cumsum(seen) / n - np.cumsum(expected) / m).max())
    p_value = min(1.0, float(np.exp(1 - 2 * effect**2 * n * m / (n + m))))
    return FeatureTest(feature, effect, p_value, p_value < level and effect >= min_effect)


def _deviating(judgement: Judgement) -> int:
    return sum(test.deviates for test in judgement.features)


def _largest_effect(judgement: Judgement) -> float:
    return max((test.effect for test in judgement.features), default=0.0)
