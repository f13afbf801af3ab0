"""Rows whose label is probably wrong: all others say something else of them."""

import numpy as np

from model_tools.check.finding import Finding, by_share, name_some
from model_tools.check.likeness import MAX_SAMPLES, draw, features_of
from model_tools.check.table import Table

_MAX_ROWS = 3_000
_TREES = 60
_TRIED = 0.2
"""Share of the features at each branch of a tree that estimates: five times faster than all, and hardly worse."""
_FOLDS = 5
_FEWEST_ROWS = 50
_FAR_DEVIATIONS = 8.0
_MIN_SKILL = 0.05
_SURE = 0.5
_MOST_DOUBTED = 0.1
"""A forest that disagrees with more, and knows less itself, is a poor witness: of raw sound it hears no tones."""
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
    told = f"rows with equal inputs and different labels: {len(rows)}; at best one of each is right"
    severity = by_share(share, 0.2, 0.01) if table.is_rich else "note"
    return [Finding("conflicting-labels", severity, told, share=share, examples=name_some(table.ids[rows]))]


def find_repeats(table: Table) -> list[Finding]:
    """Rows that are there more than once."""
    repeated = len(table) - len(np.unique(table.digests))
    if not repeated:
        return []
    share = repeated / len(table)
    return [
        Finding(
            "duplicate-rows",
            by_share(share, 2.0, 0.05) if table.is_rich else "note",
            f"rows that are equal to an earlier one: {repeated}",
            share=share,
        )
    ]


def find_doubts(table: Table, seed: int) -> list[Finding]:
    """By a forest that has not seen the row (5 folds, at most 3,000 rows); where it knows no better than guessing, that is the finding."""
    at = draw(np.arange(len(table)), _MAX_ROWS, seed)
    if len(at) < _FEWEST_ROWS or np.bincount(table.strata[at]).max() == len(at):
        return []
    features = features_of(table.take(at, MAX_SAMPLES), seed)
    if not features.shape[1]:
        return []
    if table.classes:
        shares, known = _foresee_classes(features, table.labels[at], seed)
        skill, doubted = measure_skill(shares, known), doubt(shares, known)
    else:
        errors = _miss(features, table.labels[at], seed)
        skill, doubted = 1 - float(np.square(errors).mean() / table.labels[at].var()), doubt_numbers(errors)
    return tell_doubts(table.ids[at[doubted]], skill, len(at), raw=table.pictures or table.has_windows)


def tell_doubts(doubted: np.ndarray, skill: float, rows: int, raw: bool = False) -> list[Finding]:
    """`doubted` are the ids of some of `rows`, in the eyes of who has this `skill` (measure_skill). Of `raw` pictures and
    windows a forest that knows little says little: a network may still hear and see."""
    if skill < max(_MIN_SKILL, 3 / np.sqrt(rows)):
        told = f"the inputs tell hardly anything of the target: a forest knows {max(0.0, skill):.0%} of what guessing leaves open"
        return [Finding("no-signal", "note" if raw else "warning", told)]
    if not len(doubted):
        return []
    share = len(doubted) / rows
    told, severity = f"of {rows} rows that were looked at {len(doubted)} may have a wrong label", by_share(share, 2.0, _MOST_DOUBTED)
    if severity == "warning" and skill < _SURE:
        severity, told = "note", f"{told}, says a forest that itself knows only {skill:.0%} of what guessing leaves open"
    return [Finding("doubtful-labels", severity, f"{told}: see these first", share=share, examples=name_some(doubted))]


def _foresee_classes(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (rows, classes) by forests that have not seen the row, and the classes' numbers among those that are there."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold

    found, known = np.unique(labels, return_inverse=True)
    folds = min(_FOLDS, int(np.bincount(known).min()))
    shares = np.zeros((len(labels), len(found)))
    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=seed)
    for learnt, tested in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, known):
        shares[tested] = forest.fit(features[learnt], known[learnt]).predict_proba(features[tested])
    return shares, known


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


def measure_skill(shares: np.ndarray, labels: np.ndarray) -> float:
    """The share of each class answered rightly, on average, between guessing (0) and always (1)."""
    right = shares.argmax(axis=1) == labels
    recall = np.mean([right[labels == label].mean() for label in range(shares.shape[1])])
    guessed = 1 / shares.shape[1]
    return float((recall - guessed) / (1 - guessed))


def _miss(features: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=3, max_features=_TRIED, random_state=seed)
    return targets - cross_val_predict(forest, features, targets, cv=folds)


def doubt_numbers(errors: np.ndarray) -> np.ndarray:
    """Those that are so many robust deviations from the usual one, the worst first."""
    off = np.abs(errors - np.median(errors))
    rows = np.flatnonzero(off > _FAR_DEVIATIONS * np.median(off) / _NORMAL_MAD)
    return rows[np.argsort(-off[rows], kind="stable")]
