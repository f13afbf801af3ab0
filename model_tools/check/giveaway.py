"""A column that gives the target away: it was made from the answer, or is known only once the answer is."""

import numpy as np

from model_tools.check.finding import Finding
from model_tools.check.table import Table

_FEWEST_ROWS = 20
_LINEAR = 0.99999
_MOST_VALUES = 2
"""Of a column a class, that still are a code."""


def find_giveaways(table: Table) -> list[Finding]:
    """Of vectors with at least two columns: with one, that is the task."""
    if table.has_windows or len(table.columns) < 2 or len(table) < _FEWEST_ROWS:
        return []
    rule = find_code if table.classes else find_linear
    return [finding for at, name in enumerate(table.columns) for finding in rule(table.values(at), table.labels, name)]


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
