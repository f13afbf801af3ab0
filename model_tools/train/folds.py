"""Which rows each fold of a cross-validation learns from and is judged on: as the task splits, so that what leaks there leaks nowhere here."""

import itertools
from collections.abc import Sequence

import numpy as np

from model_tools.data.dataset import Dataset
from model_tools.errors import BadData
from model_tools.sections import SplitBy

Fold = tuple[np.ndarray, np.ndarray]
"""Row numbers to learn from, and to be judged on."""


_STOPPING_FOLDS = 5


def cut_folds(rows: Dataset, by: SplitBy, count: int, seed: int) -> Sequence[Fold]:
    """`count` disjoint parts to be judged on. By time or order each is judged by a model of what came before (Tashman 2000); by group whole groups
    are; else each has its share of each class. Raises BadData for fewer than two folds, groups or rows than folds."""
    if count < 2:
        raise BadData(f"{count} folds cannot be told apart", field="search.folds", limit=2)
    match by:
        case "time" | "order":
            return _forward(rows, by, count)
        case "group":
            return _apart(np.array(_of_groups(rows, count, seed)), count)
        case "shares":
            return _apart(_of_shares(rows, count, seed), count)


def set_aside(rows: Dataset, by: SplitBy, seed: int) -> tuple[Dataset, Dataset]:
    """What is left to learn from, and rows that decide when to stop: a fifth, cut in the same way, or none where there is a single group or row."""
    count = min(_STOPPING_FOLDS, len({*(rows.groups or ())}) if by == "group" else len(rows) - 1)
    if count < 2:
        return rows, rows.select(np.arange(0))
    learnt, stopping = cut_folds(rows, by, count, seed)[-1]
    return rows.select(learnt), rows.select(stopping)


def _forward(rows: Dataset, by: SplitBy, count: int) -> Sequence[Fold]:
    if len(rows) < count + 1:
        raise BadData(f"{len(rows)} rows are too few for {count} folds", field="search.folds", limit=len(rows) - 1)
    order = np.argsort(rows.times, kind="stable") if by == "time" and rows.times is not None else np.arange(len(rows))
    ends = np.linspace(0, len(rows), count + 2).astype(int)
    return [(np.sort(order[:start]), np.sort(order[start:end])) for start, end in itertools.pairwise(ends[1:])]


def _of_groups(rows: Dataset, count: int, seed: int) -> list[int]:
    """The fold of each row: groups in random order, each to the fold with the fewest rows so far."""
    groups = rows.groups or ()
    names = sorted({*groups})
    if len(names) < count:
        raise BadData(f"{len(names)} groups cannot be cut into {count} folds", field="search.folds", limit=len(names))
    sizes, of = [0] * count, {}
    for at in np.random.default_rng(seed).permutation(len(names)):
        fold = sizes.index(min(sizes))
        of[names[at]] = fold
        sizes[fold] += groups.count(names[at])
    return [of[group] for group in groups]


def _of_shares(rows: Dataset, count: int, seed: int) -> np.ndarray:
    if len(rows) < count:
        raise BadData(f"{len(rows)} rows are too few for {count} folds", field="search.folds", limit=len(rows))
    rng, fold = np.random.default_rng(seed), np.empty(len(rows), np.int64)
    strata = [np.flatnonzero(rows.labels == label) for label in np.unique(rows.labels)] if rows.classes else [np.arange(len(rows))]
    # counting on from class to class, so that small classes do not all begin at the first fold
    dealt = np.concatenate([rng.permutation(stratum) for stratum in strata])
    fold[dealt] = np.arange(len(rows)) % count
    return fold


def _apart(fold: np.ndarray, count: int) -> Sequence[Fold]:
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]
