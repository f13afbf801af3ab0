"""A column that gives the target away: it was made from the answer, or is known only once the answer is."""

from collections.abc import Sequence

import numpy as np

from model_tools.check.finding import Finding
from model_tools.check.likeness import draw
from model_tools.check.table import Table

_FEWEST_ROWS = 20
_LINEAR = 0.99999
_MOST_VALUES = 2
"""Of a column a class, that still are a code."""
_ALONE = 0.99
_OTHERS = 0.9
_MAX_ROWS = 2_000


def find_giveaways(table: Table, seed: int) -> list[Finding]:
    """Of vectors with at least two columns: with one, that is the task."""
    if table.has_windows or len(table.columns) < 2 or len(table) < _FEWEST_ROWS:
        return []
    rule = find_code if table.classes else find_linear
    found = [finding for at, name in enumerate(table.columns) for finding in rule(table.values(at), table.labels, name)]
    if found:
        return found
    rows = draw(np.arange(len(table)), _MAX_ROWS, seed)
    values, labels = table.take(rows), table.labels[rows]
    skill = _tell_apart if table.classes else _rise_together
    return find_alone(np.array([skill(column, labels) for column in values.T]), table.columns)


def find_alone(skills: np.ndarray, names: Sequence[str]) -> list[Finding]:
    """Of `skills` (0..1), how well each column alone gives the target: nearly perfect ones, at most half of all, where no other comes near."""
    best = skills >= _ALONE
    if not best.any() or best.sum() > len(skills) / 2 or skills[~best].max() >= _OTHERS:
        return []
    told = "column {!r} alone gives the target ({:.1%}), no other more than {:.1%}: is it known before the answer is? see input.ignore"
    return [
        Finding("giveaway", "warning", told.format(names[at], skills[at], skills[~best].max()), names[at], float(skills[at]))
        for at in np.flatnonzero(best)
    ]


def _tell_apart(column: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of each class that a few thresholds of one column answer rightly."""
    from sklearn.tree import DecisionTreeClassifier

    classes, at = np.unique(labels, return_inverse=True)
    tree = DecisionTreeClassifier(max_leaf_nodes=2 * max(2, len(classes)), min_samples_leaf=3, class_weight="balanced", random_state=0)
    right = tree.fit(column[:, None], at).predict(column[:, None]) == at
    return float(np.mean(np.bincount(at, right) / np.bincount(at)))


def _rise_together(column: np.ndarray, targets: np.ndarray) -> float:
    """Rank correlation, of either sign; equal values share a rank."""
    ranks = [np.unique(values, return_inverse=True)[1] for values in (column, targets)]
    return abs(float(np.corrcoef(*ranks)[0, 1])) if all(map(np.ptp, ranks)) else 0.0


def find_code(column: np.ndarray, labels: np.ndarray, name: str) -> list[Finding]:
    """Few values, each of one class alone, and every class its own: the label in other words."""
    values, at = np.unique(column, return_inverse=True)
    classes = np.unique(labels)
    if len(values) < 2 or len(classes) < 2 or len(values) > _MOST_VALUES * len(classes):
        return []
    pairs = np.unique(np.stack([at, labels]), axis=1)
    if pairs.shape[1] != len(values):
        return []
    told = f"leakage: each value of column {name!r} has one class alone: it is the target in other words; see input.ignore"
    return [Finding("giveaway", "error", told, name, 1.0)]


def find_linear(column: np.ndarray, targets: np.ndarray, name: str) -> list[Finding]:
    """The target in another unit."""
    values = column.astype(np.float64)
    if not np.ptp(values):
        return []
    alike = float(np.corrcoef(values, targets)[0, 1])
    if abs(alike) < _LINEAR:
        return []
    told = f"leakage: column {name!r} is the target in another unit (correlation {alike:.6f}); see input.ignore"
    return [Finding("giveaway", "error", told, name, abs(alike))]
