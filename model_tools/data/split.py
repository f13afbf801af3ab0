"""Which rows train, which validate, which test: the same rows and seed, the same answer."""

import math
from collections.abc import Sequence

import numpy as np

from model_tools.data.dataset import Dataset, Splits
from model_tools.data.found import Found
from model_tools.errors import BadData
from model_tools.sections import Split


def split(found: Found, rule: Split) -> Splits:
    """By time when rows have one (the newest test), by whole groups when they have those, else so that each part has its share of each class.

    Raises BadData when a part would be empty, or a class absent from training.
    """
    if found.times is not None:
        test, validation = _newest(found.times, rule)
    elif found.groups is not None:
        test, validation = _whole_groups(found.groups, rule)
    else:
        test, validation = _shares(found.rows.labels, rule)
    rest = np.setdiff1d(np.arange(len(found.rows)), np.concatenate([test, validation]))
    parts = [found.rows.select(np.sort(part)) for part in (rest, validation, test)]
    _check(*parts)
    return Splits(*parts, columns=found.columns)


def hold_out(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Two disjoint parts, the second with about `share` of each class that has at least two rows; it is empty when no class has."""
    chosen: list[int] = []
    rng = np.random.default_rng(seed)
    carry = 0.0
    for label in np.unique(rows.labels):
        at = rng.permutation(np.flatnonzero(rows.labels == label))
        carry += share * len(at)
        take = min(int(carry), len(at) - 1)
        carry -= take
        chosen += at[:take].tolist()
    held = np.array(sorted(chosen), np.int64)
    return rows.select(np.setdiff1d(np.arange(len(rows)), held)), rows.select(held)


def _shares(labels: np.ndarray, rule: Split) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rule.seed)
    test, validation = [], []
    for label in np.unique(labels):
        at = rng.permutation(np.flatnonzero(labels == label))
        first = max(1, round(rule.test * len(at)))
        second = first + max(1, round(rule.validation * len(at)))
        test.append(at[:first])
        validation.append(at[first:second])
    return np.concatenate(test), np.concatenate(validation)


def _newest(times: Sequence[str], rule: Split) -> tuple[np.ndarray, np.ndarray]:
    order = np.array(sorted(range(len(times)), key=_clock(times)), np.int64)
    first = len(order) - max(1, round(rule.test * len(order)))
    second = first - max(1, round(rule.validation * len(order)))
    return order[first:], order[second:first]


def _clock(times: Sequence[str]):
    """Numbers by value; otherwise text, which orders ISO 8601 dates."""
    try:
        values = [float(t) for t in times]
    except ValueError:
        return lambda row: (times[row], row)
    if not all(map(math.isfinite, values)):
        raise BadData("the time column has NaN or infinity", field="split.time")
    return lambda row: (values[row], row)


def _whole_groups(groups: Sequence[str], rule: Split) -> tuple[np.ndarray, np.ndarray]:
    names = np.array(groups)
    order = np.random.default_rng(rule.seed).permutation(np.unique(names))
    if len(order) < 3:
        raise BadData(f"{len(order)} groups cannot be split into training, validation and test", field="split.group", limit=3)
    test, rest = _take(names, order, rule.test, keep=2)
    validation, _ = _take(names, rest, rule.validation, keep=1)
    return test, validation


def _take(names: np.ndarray, order: np.ndarray, share: float, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups from the front of `order` until they have the share of all rows, leaving `keep`."""
    taken: list[np.ndarray] = []
    for group in order[: len(order) - keep]:
        taken.append(np.flatnonzero(names == group))
        if sum(map(len, taken)) >= share * len(names):
            break
    return np.concatenate(taken), order[len(taken) :]


def _check(train: Dataset, validation: Dataset, test: Dataset) -> None:
    for part, name in ((train, "training"), (validation, "validation"), (test, "test")):
        if not len(part):
            raise BadData(f"the split leaves no rows for {name}", field="split", limit=1)
    if absent := [c for c, rows in train.count().items() if not rows]:
        raise BadData(f"the split leaves no training row of class {absent[0]!r}", field="split", limit=1)
