"""What single columns show: no information, numbers of rows, codes for missing values, values far from all others, copies."""

from collections.abc import Callable, Sequence

import numpy as np

from model_tools.check.finding import Finding, name_some
from model_tools.check.likeness import draw
from model_tools.check.table import Table

_GROWING = 0.99
_FEWEST_ROWS = 10
_FEWEST_DISTINCT = 50
_FAR_SPANS = 1_000
_CODE_SPANS = 3
_CODE_SHARE = 0.002
_NEARLY_ALL = 0.998
_MAX_SAMPLES = 1_000_000


def check_columns(table: Table, seed: int) -> list[Finding]:
    """Of vectors and windows."""
    if not table.columns:
        return []
    rows = draw(np.arange(len(table)), max(1, _MAX_SAMPLES // table.length), seed)
    values = table.take(rows).reshape(-1, len(table.columns))
    found = [*_find_copies(values, table.columns)]
    for at, name in enumerate(table.columns):
        column = values[:, at].astype(np.float64)
        if not table.has_windows:
            found += find_row_numbers(table.values(at), name, table.follows)
        for rule in _RULES:
            found += rule(column, name, () if table.has_windows else table.ids[rows])
    return found


def find_constant(column: np.ndarray, name: str, ids: Sequence[str]) -> list[Finding]:
    """One value, or one in all but two rows of a thousand."""
    values, counts = np.unique(column, return_counts=True)
    if len(values) == 1:
        told = f"column {name!r} is {values[0]:g} in every row: it tells nothing, and on a device any other value is news; see input.ignore"
        return [Finding("constant-column", "warning", told, name)]
    share = counts.max() / len(column)
    if share < _NEARLY_ALL:
        return []
    told = f"column {name!r} is {values[counts.argmax()]:g} in {share:.2%} of the rows"
    return [Finding("nearly-constant-column", "note", told, name, float(share))]


def find_row_numbers(column: np.ndarray, name: str, follows: np.ndarray) -> list[Finding]:
    """Columns that grow from each row to the next (of a group): a number or a time of the row, not a measurement."""
    steps = column[follows + 1] - column[follows]
    if len(column) < _FEWEST_ROWS or not len(steps) or (steps > 0).mean() < _GROWING:
        return []
    told = f"column {name!r} seems to number the rows, which devices would call drift: see input.ignore"
    return [Finding("row-number", "warning", told, name)]


def find_ids(column: np.ndarray, name: str, ids: Sequence[str]) -> list[Finding]:
    """Whole numbers of which no two are equal, close together: names of rows in another order than the file's."""
    if len(column) < _FEWEST_DISTINCT or not (column == np.round(column)).all() or (np.diff(column) > 0).mean() >= _GROWING:
        return []
    if len(np.unique(column)) < len(column) or np.ptp(column) > 4 * len(column):
        return []
    told = f"column {name!r} holds another whole number in every row: is it a name? see input.ignore"
    return [Finding("id-like-column", "warning", told, name)]


def find_far(column: np.ndarray, name: str, ids: Sequence[str]) -> list[Finding]:
    """Values a thousand times further from the middle than the usual ones lie apart: a broken sensor, a slipped decimal point."""
    low, middle, high = np.quantile(column, (0.05, 0.5, 0.95))
    span = (high - low) or abs(middle) or 1.0
    far = np.flatnonzero(np.abs(column - middle) > _FAR_SPANS * span)
    if not len(far):
        return []
    worst = column[far[np.abs(column[far] - middle).argmax()]]
    told = f"column {name!r} has {len(far)} values far from all others ({low:g} to {high:g}), such as {worst:g}: one fixes every scale"
    return [Finding("far-values", "warning", told, name, len(far) / len(column), _named(far, ids))]


def find_codes(column: np.ndarray, name: str, ids: Sequence[str]) -> list[Finding]:
    """One extreme value, met again and again with nothing near it: -999 and the like for what was not measured."""
    values, counts = np.unique(column, return_counts=True)
    if len(values) < _FEWEST_ROWS:
        return []
    rest = values[-2] - values[1]
    ends = ((values[0], counts[0], values[1] - values[0]), (values[-1], counts[-1], values[-1] - values[-2]))
    found = []
    for value, count, gap in ends:
        if count >= max(3, _CODE_SHARE * len(column)) and gap > _CODE_SPANS * rest:
            told = f"column {name!r} is {value:g} in {count} rows, far from all others: does it stand for a missing value?"
            found.append(Finding("missing-code", "warning", told, name, count / len(column), _named(np.flatnonzero(column == value), ids)))
    return found


def _find_copies(values: np.ndarray, columns: Sequence[str]) -> list[Finding]:
    first: dict[bytes, str] = {}
    found = []
    for at, name in enumerate(columns):
        known = first.setdefault(np.ascontiguousarray(values[:, at]).tobytes(), name)
        if known != name and np.ptp(values[:, at]):
            found.append(Finding("repeated-column", "note", f"column {name!r} is the same as {known!r}", name))
    return found


def _named(rows: np.ndarray, ids: Sequence[str]) -> tuple[str, ...]:
    return name_some([ids[row] for row in rows[:20]]) if len(ids) else ()


_RULES: tuple[Callable[[np.ndarray, str, Sequence[str]], list[Finding]], ...] = (find_constant, find_ids, find_far, find_codes)
