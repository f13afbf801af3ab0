"""Which rows train, which validate, which test: the same rows and seed, the same answer."""

from collections.abc import Sequence

import numpy as np

from model_tools.data.dataset import Dataset, Splits
from model_tools.errors import BadData
from model_tools.sections import Split, SplitBy, TaskKind

Held = tuple[np.ndarray, np.ndarray]
"""Positions of the rows of test and of validation."""
_PARTS_COUNT = 3
_ORDERS_COUNT = 64
_ROUNDING = 1e-6
_LACKING = (100.0, 1.0, 10.0)
"""What a class weighs that training, validation or test has no group of."""


def split(rows: Dataset, rule: Split, kind: TaskKind = "classification") -> Splits:
    """As `choose_way` says: the newest test, whole groups, or each part with its share of each class (of a regression: of all rows).

    Raises BadData when a part would be empty, a class absent from training, or the rows do not know what they are to be split by.
    """
    by = choose_way(rows, rule)
    test, validation = hold(rows, rule, by, kind)
    rest = np.setdiff1d(np.arange(len(rows)), np.concatenate([test, validation]))
    return checked([rows.select(np.sort(part)) for part in (rest, validation, test)], kind, by)


def choose_way(rows: Dataset, rule: Split, otherwise: SplitBy = "shares") -> SplitBy:
    """What the task says, and else by time wherever rows have one: what is measured later than it was learnt is what a device meets."""
    if rule.by is not None:
        return rule.by
    if rule.group is not None:
        return "group"
    return "time" if rows.times is not None else otherwise


def hold(rows: Dataset, rule: Split, by: SplitBy, kind: TaskKind) -> Held:
    """Raises BadData when the rows do not know what they are to be split by, or have too few groups."""
    match by:
        case "time":
            return _newest(rows, rule)
        case "group":
            return _whole_groups(rows, rule)
        case "order":
            return _last(np.arange(len(rows)), rule)
    return _shares(rows, rule, kind)


def checked(parts: Sequence[Dataset], kind: TaskKind, by: SplitBy) -> Splits:
    """Of training, validation and test. Raises BadData when one is empty, or a class absent from training."""
    for part, name in zip(parts, ("training", "validation", "test"), strict=True):
        if not len(part):
            raise BadData(f"the split by {by} leaves nothing for {name}", field="split", limit=1)
    needed = parts[0].classes[:1] if kind == "anomaly" else parts[0].classes
    if absent := [c for c, rows in parts[0].count().items() if not rows and c in needed]:
        others = ", ".join(f'"{way}"' for way in ("shares", "group", "order") if way != by)
        told = f"the split by {by} leaves no training row of class {absent[0]!r}; split.by may be {others} instead"
        raise BadData(told, field="split", limit=1)
    return Splits(*parts, by=by)


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


def _shares(rows: Dataset, rule: Split, kind: TaskKind) -> Held:
    """Of anomalies none is left for training: nothing is fitted to them."""
    rng = np.random.default_rng(rule.seed)
    test, validation = [], []
    for stratum in _strata(rows):
        at = rng.permutation(stratum)
        odd = kind == "anomaly" and rows.labels[at[0]] == 1
        whole = rule.test + rule.validation if odd else 1
        first = max(1, round(rule.test / whole * len(at)))
        second = len(at) if odd else first + max(1, round(rule.validation * len(at)))
        test.append(at[:first])
        validation.append(at[first:second])
    return np.concatenate(test), np.concatenate(validation)


def _strata(rows: Dataset) -> Sequence[np.ndarray]:
    """The rows of each class; of a regression all of them."""
    if not rows.classes:
        return [np.arange(len(rows))]
    return [np.flatnonzero(rows.labels == label) for label in np.unique(rows.labels)]


def _newest(rows: Dataset, rule: Split) -> Held:
    """What was measured at one moment stays together."""
    if rows.times is None:
        raise BadData('to split by time, name its column in split.time; by the order of the rows: split.by = "order"', field="split.time")
    moments, of = np.unique(rows.times, return_inverse=True)
    if len(moments) < _PARTS_COUNT:
        raise BadData(f"{len(moments)} moments cannot be split into training, validation and test", field="split.time", limit=_PARTS_COUNT)
    newest_first = np.arange(len(moments))[::-1]
    return _rows_of(of, _take(newest_first, np.bincount(of), rule))


def _last(order: np.ndarray, rule: Split) -> Held:
    first = len(order) - max(1, round(rule.test * len(order)))
    second = first - max(1, round(rule.validation * len(order)))
    return order[first:], order[max(0, second) : first]


def _whole_groups(rows: Dataset, rule: Split) -> Held:
    if rows.groups is None:
        raise BadData("to split by group, name its column in split.group", field="split.group")
    names, of = np.unique(rows.groups, return_inverse=True)
    if len(names) < _PARTS_COUNT:
        raise BadData(f"{len(names)} groups cannot be split into training, validation and test", field="split.group", limit=_PARTS_COUNT)
    rng = np.random.default_rng(rule.seed)
    sizes = np.bincount(of)
    if not rows.classes:
        return _rows_of(of, _take(rng.permutation(len(names)), sizes, rule))
    counts = np.zeros((len(names), len(rows.classes)))
    np.add.at(counts, (of, rows.labels), 1)
    tried = [_take(order, sizes, rule) for order in _orders(rng, counts)]
    return _rows_of(of, min(tried, key=lambda held: _imbalance(counts, held)))


def _orders(rng: np.random.Generator, counts: np.ndarray) -> list[np.ndarray]:
    """Some at random, and one in which the classes take turns."""
    orders = [rng.permutation(len(counts)) for _ in range(_ORDERS_COUNT)]
    main, turn = counts.argmax(axis=1)[orders[0]], np.zeros(len(counts))
    for label in np.unique(main):
        at = np.flatnonzero(main == label)
        turn[at] = (np.arange(len(at)) + 0.5) / len(at)
    return [*orders, orders[0][np.argsort(turn, kind="stable")]]


def _imbalance(counts: np.ndarray, held: Held) -> float:
    """How far the shares of the classes in the three parts are from those in the whole; a class that a part lacks weighs more, in training most."""
    test, validation = held
    rest = np.setdiff1d(np.arange(len(counts)), np.concatenate(held))
    whole = counts.sum(axis=0) / counts.sum()
    parts = [counts[part].sum(axis=0) for part in (rest, validation, test)]
    far = sum(float(np.abs(part / part.sum() - whole).sum()) for part in parts)
    lacked = [float(((part == 0) & (whole > 0)).sum()) for part in parts]
    return far + float(np.dot(lacked, _LACKING))


def _take(order: np.ndarray, sizes: np.ndarray, rule: Split) -> Held:
    """Groups from the front of `order` until they have the share of all rows, leaving one at least to each part behind."""
    held, start = [], 0
    for share, keep in ((rule.test, 2), (rule.validation, 1)):
        grown = np.cumsum(sizes[order[start:]])
        count = 1 + int(np.searchsorted(grown, share * sizes.sum() - _ROUNDING))
        count = min(count, len(order) - start - keep)
        held.append(order[start : start + count])
        start += count
    return held[0], held[1]


def _rows_of(of: np.ndarray, held: Held) -> Held:
    """From positions of groups to those of rows."""
    return np.flatnonzero(np.isin(of, held[0])), np.flatnonzero(np.isin(of, held[1]))
