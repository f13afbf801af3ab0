"""Rows in the order of the file that depend on each other: split at random, each test row has its neighbours in training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_tools.check.finding import Finding
from model_tools.check.likeness import MAX_SAMPLES, draw, features_of
from model_tools.check.table import TEST, Table

_ALIKE_WARNING, _ALIKE_ERROR = 0.68, 0.75
"""Iris, wine, breast cancer, digits and diabetes of scikit-learn have 0.47 to 0.64, of which wine and iris are sorted; weather by the day 0.85,
sensors of turbofans 0.78. 0.7 is what a lag-one correlation of 0.5 gives."""
_PICTURES_WARNING, _PICTURES_ERROR = 0.8, 0.88
"""In a folder a class, pictures of one hand or camera often stand together: digits as pictures have 0.72."""
_MIXED_WARNING = 0.1
_MIXED_ERROR = 0.3
_MAX_PAIRS = 3_000
_SORTED = 0.99
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Dependence:
    """How often a row is more like its neighbour in the file than like any other of its class (`alike`; 0.5 is chance), seen on so many `pairs`, and
    the share of the test rows that have a neighbour in training (`mixed`)."""

    alike: float
    pairs: int
    mixed: float
    pictures: bool = False


def find_serial(found: Dependence) -> list[Finding]:
    """At most one finding: rows that resemble their neighbours, and stand on both sides of the split."""
    warning, error = (_PICTURES_WARNING, _PICTURES_ERROR) if found.pictures else (_ALIKE_WARNING, _ALIKE_ERROR)
    if found.alike < max(warning, 0.5 + 2 / np.sqrt(max(1, found.pairs))) or found.mixed < _MIXED_WARNING:
        return []
    severity = "error" if found.alike >= error and found.mixed >= _MIXED_ERROR else "warning"
    told = (
        f"leakage: rows depend on the rows before them. {found.alike:.0%} are more like their neighbour than like others of their class (by chance "
        f'50%), and {found.mixed:.0%} of the test rows have a neighbour in training; split.by = "order", split.time or split.group part them'
    )
    return [Finding("serial", severity, told, share=found.mixed)]


def measure_dependence(table: Table, seed: int) -> Dependence:
    """Of at most 3,000 pairs of neighbours. Columns by which the file is sorted do not count: a sorted file is no series."""
    pairs = draw(table.follows, _MAX_PAIRS, seed)
    if not len(pairs):
        return Dependence(0.5, 0, 0.0)
    others = _draw_alike(table.strata, pairs + 1, np.random.default_rng(seed))
    at = np.concatenate([pairs, pairs + 1, others])
    features = _centred(features_of(_outline(table, at), seed), table.strata[at])
    if not features.shape[1]:
        return Dependence(0.5, 0, 0.0)
    one, following, other = features.reshape(3, len(pairs), -1)
    near, far = (np.square(one - end).sum(axis=1) for end in (following, other))
    return Dependence(float(((near < far) + 0.5 * (near == far)).mean()), len(pairs), _mixed(table), table.pictures)


def _outline(table: Table, rows: np.ndarray) -> np.ndarray:
    """What of the rows is compared. Of a window its level, spread and roughness: where in a swing it was cut says nothing."""
    inputs = table.take(rows, MAX_SAMPLES)
    if table.has_windows:
        return np.concatenate([inputs.mean(axis=1), inputs.std(axis=1), np.abs(np.diff(inputs, axis=1)).mean(axis=1)], axis=1)
    return inputs[:, ~find_sorted([table.values(at) for at in range(len(table.columns))], table.follows)] if table.columns else inputs


def find_sorted(columns: Sequence[np.ndarray], follows: np.ndarray) -> np.ndarray:
    """bool (columns,): those by which the rows are sorted, one after the other, as tables of all combinations are; the slowest counts first."""
    steps = [column[follows + 1] - column[follows] for column in columns]
    found = np.zeros(len(columns), bool)
    level = np.ones(len(follows), bool)
    for at in sorted(range(len(columns)), key=lambda at: np.count_nonzero(steps[at])):
        within = steps[at][level]
        if len(within) < _FEWEST_STEPS:
            break
        if (within >= 0).mean() > _SORTED or (within <= 0).mean() > _SORTED:
            found[at] = True
            level &= steps[at] == 0
    return found


def _draw_alike(strata: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of these rows any row of its class."""
    drawn = np.empty(len(rows), np.int64)
    for stratum in np.unique(strata[rows]):
        chosen = strata[rows] == stratum
        drawn[chosen] = rng.choice(np.flatnonzero(strata == stratum), int(chosen.sum()))
    return drawn


def _centred(features: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Less the mean of the class: that rows of one class are alike is no dependence, in a file that is sorted by class neither."""
    centred = features.copy()
    for stratum in np.unique(strata):
        centred[strata == stratum] -= features[strata == stratum].mean(axis=0)
    return centred


def _mixed(table: Table) -> float:
    """The share of the test rows that have a training row right before or after them in their group."""
    beside = np.zeros(len(table), bool)
    beside[table.follows] |= table.learnt[table.follows + 1]
    beside[table.follows + 1] |= table.learnt[table.follows]
    tested = table.rows(TEST)
    return float(beside[tested].mean()) if len(tested) else 0.0
