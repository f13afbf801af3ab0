"""Which rows train, which validate, which test: the same rows and seed, the same answer."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from model_tools.data.dataset import Dataset, SplitBy, Splits
from model_tools.errors import BadData
from model_tools.sections import Split, TaskKind


def split(rows: Dataset, rule: Split, kind: TaskKind = "classification") -> Splits:
    """As `choose_way` says: the newest test, whole groups, or each part with its share of each class (of a regression: of all rows).

    Raises BadData when a part would be empty, a class absent from training, or the rows do not know what they are to be split by.
    """
    by = choose_way(rows, rule)
    test, validation = _WAYS[by](rows, rule)
    rest = np.setdiff1d(np.arange(len(rows)), np.concatenate([test, validation]))
    parts = [rows.select(np.sort(part)) for part in (rest, validation, test)]
    _check(parts, kind)
    return Splits(*parts, by=by)


def choose_way(rows: Dataset, rule: Split) -> SplitBy:
    """What the task says, and else by time wherever rows have one: what is measured later than it was learnt is what a device meets."""
    if rule.by is not None:
        return rule.by
    if rule.group is not None:
        return "group"
    return "time" if rows.times is not None else "shares"


def hold_out(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Two disjoint parts, the second with about `share` of each class that has at least two rows; it is empty when no class has."""
    chosen: list[int] = []
    rng = np.random.default_rng(seed)
    carry = 0.0
    for stratum in _strata(rows):
        at = rng.permutation(stratum)
        carry += share * len(at)
        take = min(int(carry), len(at) - 1)
        carry -= take
        chosen += at[:take].tolist()
    held = np.array(sorted(chosen), np.int64)
    return rows.select(np.setdiff1d(np.arange(len(rows)), held)), rows.select(held)


def _shares(rows: Dataset, rule: Split) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rule.seed)
    test, validation = [], []
    for stratum in _strata(rows):
        at = rng.permutation(stratum)
        first = max(1, round(rule.test * len(at)))
        second = first + max(1, round(rule.validation * len(at)))
        test.append(at[:first])
        validation.append(at[first:second])
    return np.concatenate(test), np.concatenate(validation)


def _strata(rows: Dataset) -> Sequence[np.ndarray]:
    """The rows of each class; of a regression all of them."""
    if not rows.classes:
        return [np.arange(len(rows))]
    return [np.flatnonzero(rows.labels == label) for label in np.unique(rows.labels)]


def _newest(rows: Dataset, rule: Split) -> tuple[np.ndarray, np.ndarray]:
    if rows.times is None:
        raise BadData('to split by time, name its column in split.time; by the order of the rows: split.by = "order"', field="split.time")
    return _last(np.argsort(rows.times, kind="stable"), rule)


def _end(rows: Dataset, rule: Split) -> tuple[np.ndarray, np.ndarray]:
    return _last(np.arange(len(rows)), rule)


def _last(order: np.ndarray, rule: Split) -> tuple[np.ndarray, np.ndarray]:
    first = len(order) - max(1, round(rule.test * len(order)))
    second = first - max(1, round(rule.validation * len(order)))
    return order[first:], order[second:first]


def _whole_groups(rows: Dataset, rule: Split) -> tuple[np.ndarray, np.ndarray]:
    if rows.groups is None:
        raise BadData("to split by group, name its column in split.group", field="split.group")
    names = np.array(rows.groups)
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


def _check(parts: Sequence[Dataset], kind: TaskKind) -> None:
    for part, name in zip(parts, ("training", "validation", "test"), strict=True):
        if not len(part):
            raise BadData(f"the split leaves no rows for {name}", field="split", limit=1)
    needed = parts[0].classes[:1] if kind == "anomaly" else parts[0].classes
    if absent := [c for c, rows in parts[0].count().items() if not rows and c in needed]:
        raise BadData(f"the split leaves no training row of class {absent[0]!r}", field="split", limit=1)


_WAYS: Mapping[SplitBy, Callable[[Dataset, Split], tuple[np.ndarray, np.ndarray]]] = {
    "time": _newest,
    "group": _whole_groups,
    "order": _end,
    "shares": _shares,
}
"""Each gives the rows of test and of validation."""
