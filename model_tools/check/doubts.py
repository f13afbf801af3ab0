"""Rows whose label is probably wrong: all others say something else of them."""

import numpy as np

from model_tools.check.finding import Finding, by_share, name_some
from model_tools.check.likeness import draw, features_of
from model_tools.check.table import Table

_MAX_ROWS = 4_000
_TREES = 100
_FOLDS = 5
_FEWEST_ROWS = 50
_FAR_DEVIATIONS = 8.0
_NORMAL_MAD = 0.6745
"""Median absolute deviation of a standard normal distribution."""


def find_conflicts(table: Table) -> list[Finding]:
    """Equal inputs with different labels: no model can have both right."""
    order = np.lexsort((table.labels, table.digests))
    digests, labels = table.digests[order], table.labels[order]
    differ = np.flatnonzero((digests[1:] == digests[:-1]) & (labels[1:] != labels[:-1]))
    if not len(differ):
        return []
    rows = np.flatnonzero(np.isin(table.digests, digests[differ]))
    share = len(rows) / len(table)
    told = f"{len(rows)} rows have equal inputs and different labels: at best one of each is right"
    return [Finding("conflicting-labels", by_share(share, 0.2, 0.01), told, share=share, examples=name_some(table.ids[rows]))]


def find_repeats(table: Table) -> list[Finding]:
    """Rows that are there more than once."""
    repeated = len(table) - len(np.unique(table.digests))
    if not repeated:
        return []
    share = repeated / len(table)
    return [Finding("duplicate-rows", by_share(share, 2.0, 0.05), f"{repeated} rows are equal to another row", share=share)]


def find_doubts(table: Table, seed: int) -> list[Finding]:
    """By a forest that has not seen the row (5 folds, at most 4,000 rows)."""
    at = draw(np.arange(len(table)), _MAX_ROWS, seed)
    smallest = np.bincount(table.strata[at]).min()
    if len(at) < _FEWEST_ROWS or smallest < _FOLDS:
        return []
    features = features_of(table.inputs[at], seed)
    if not features.shape[1]:
        return []
    doubted = _doubt_classes(features, table.labels[at], seed) if table.classes else _doubt_numbers(features, table.labels[at], seed)
    if not len(doubted):
        return []
    share = len(doubted) / len(at)
    told = f"{len(doubted)} of {len(at)} rows may have a wrong label: look at these first"
    return [Finding("doubtful-labels", by_share(share, 2.0, 0.1), told, share=share, examples=name_some(table.ids[at[doubted]]))]


def _doubt_classes(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=seed)
    known = np.unique(labels, return_inverse=True)[1]
    return doubt(cross_val_predict(forest, features, known, cv=folds, method="predict_proba"), known)


def doubt(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows in doubt, the worst first, from out-of-sample probabilities (rows, classes). Confident learning (Northcutt, Jiang and Chuang, 2021):
    a row counts to the likeliest class of those that are as likely as they usually are for their own rows, and is in doubt where that is not its own."""
    own = shares[np.arange(len(labels)), labels]
    usual = np.array([own[labels == label].mean() for label in range(shares.shape[1])])
    confident = np.where(shares >= usual, shares, -1.0)
    other = confident.argmax(axis=1)
    margin = confident.max(axis=1) - own
    rows = np.flatnonzero((confident.max(axis=1) > 0) & (other != labels) & (margin > 0.0))
    return rows[np.argsort(-margin[rows], kind="stable")]


def _doubt_numbers(features: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
    """Those whose error is so many robust deviations from the usual one."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    errors = targets - cross_val_predict(ExtraTreesRegressor(_TREES, min_samples_leaf=2, random_state=seed), features, targets, cv=folds)
    off = np.abs(errors - np.median(errors))
    rows = np.flatnonzero(off > _FAR_DEVIATIONS * np.median(off) / _NORMAL_MAD)
    return rows[np.argsort(-off[rows], kind="stable")]
