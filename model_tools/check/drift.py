"""How the test rows differ from the training rows: after a split by time, whether the world has changed meanwhile."""

import numpy as np

from model_tools.check.finding import Finding
from model_tools.check.likeness import MAX_SAMPLES, draw
from model_tools.check.table import TEST, TRAIN, Table
from model_tools.sections import TaskKind

_MIN_EFFECT = 0.25
"""Kolmogorov-Smirnov distance, as policy.drift.min_effect."""
_FALSE_ALARMS = 0.01
_MIN_SHIFT = 0.15
"""Total variation of the classes' shares."""
_MAX_ROWS = 10_000
_MOST_NAMED = 8


def check_drift(table: Table, seed: int, kind: TaskKind) -> list[Finding]:
    """Where anomalies are sought, of the normal rows alone."""
    normal = table.labels == 0 if kind == "anomaly" else np.ones(len(table), bool)
    learnt, tested = (draw(np.flatnonzero((table.part == part) & normal), _MAX_ROWS, seed) for part in (TRAIN, TEST))
    if not len(learnt) or not len(tested):
        return []
    return [*_find_moved(table, learnt, tested), *_find_shift(table, learnt, tested)]


def _find_moved(table: Table, learnt: np.ndarray, tested: np.ndarray) -> list[Finding]:
    if table.light is not None:
        return find_drift(table.light[learnt], table.light[tested], ("brightness", "contrast"))
    return find_drift(table.take(learnt, MAX_SAMPLES), table.take(tested, MAX_SAMPLES), table.columns)


def find_drift(learnt: np.ndarray, tested: np.ndarray, columns: tuple[str, ...]) -> list[Finding]:
    """Columns whose distributions differ more than chance and more than matters (two-sample Kolmogorov-Smirnov, Bonferroni over columns). A
    window counts by its mean: its samples depend on each other."""
    if not columns:
        return []
    one, other = (rows.mean(axis=1, dtype=np.float64) if rows.ndim == 3 else rows for rows in (learnt, tested))
    # P(D > d) <= 2 exp(-2 d^2 n m / (n + m)), Kolmogorov-Smirnov for two samples
    rows = len(one) * len(other) / (len(one) + len(other))
    limit = max(_MIN_EFFECT, float(np.sqrt(np.log(2 * len(columns) / _FALSE_ALARMS) / (2 * rows))))
    distances = {name: distance(one[:, at], other[:, at]) for at, name in enumerate(columns)}
    moved = sorted((name for name in columns if distances[name] > limit), key=lambda name: -distances[name])
    if not moved:
        return []
    named = ", ".join(f"{name} {distances[name]:.2f}" for name in moved[:_MOST_NAMED])
    more = f" and {len(moved) - _MOST_NAMED} more" if len(moved) > _MOST_NAMED else ""
    told = f"test rows are distributed otherwise than training rows (Kolmogorov-Smirnov distance): {named}{more}"
    return [Finding("drift", "warning", told, moved[0], len(moved) / len(columns), tuple(moved[:_MOST_NAMED]))]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov-Smirnov: the most that the two cumulated shares differ."""
    at = np.concatenate([one, other])
    shares = (np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (one, other))
    return float(np.abs(np.subtract(*shares)).max())


def _find_shift(table: Table, learnt: np.ndarray, tested: np.ndarray) -> list[Finding]:
    if not table.classes:
        return find_drifted_target(distance(table.labels[learnt], table.labels[tested]), min(len(learnt), len(tested)))
    one, other = (np.bincount(table.labels[rows], minlength=len(table.classes)) / len(rows) for rows in (learnt, tested))
    shift = float(np.abs(one - other).sum() / 2)
    by_chance = float((np.sqrt(one * (1 - one) * (1 / len(learnt) + 1 / len(tested)))).sum())
    if shift < max(_MIN_SHIFT, by_chance):
        return []
    name = table.classes[int(np.abs(one - other).argmax())]
    at = table.classes.index(name)
    told = f"the classes' shares differ between training and test by {shift:.0%}; {name!r} has {one[at]:.0%} and {other[at]:.0%}"
    return [Finding("label-drift", "warning", told, name, shift)]


def find_drifted_target(apart: float, rows: int) -> list[Finding]:
    """Of a regression; `apart` is the Kolmogorov-Smirnov distance, `rows` those of the smaller part."""
    if apart < max(_MIN_EFFECT, 2 / np.sqrt(rows)):
        return []
    told = f"the target is distributed otherwise in the test than in training (Kolmogorov-Smirnov distance {apart:.2f})"
    return [Finding("label-drift", "warning", told, share=apart)]
