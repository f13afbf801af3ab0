"""Whether every class has rows enough to be learnt, and to be judged."""

from collections.abc import Mapping

from model_tools.check.finding import Finding
from model_tools.data.dataset import Splits
from model_tools.sections import TaskKind

_RARE = 0.1
"""Of an equal share: a model that never says such a class is still accurate."""
_FEWEST_TESTED = 5
_FEWEST_TEST_ROWS = 100


def check_balance(splits: Splits, kind: TaskKind, weighted: bool) -> list[Finding]:
    """`weighted`: the training makes up for classes that are rare. Anomalies are: nothing is learnt from them."""
    train, _, test = (part.count() for part in splits.parts)
    rare = [] if kind == "anomaly" else find_rare(train, weighted)
    return [*rare, *find_untested(test, kind), *_few(len(splits.test))]


def find_rare(train: Mapping[str, int], weighted: bool) -> list[Finding]:
    """Classes with far fewer training rows than their share; `weighted`: the task makes up for it."""
    rows = sum(train.values())
    found = []
    for name, count in train.items():
        if count < _RARE * rows / len(train):
            told = f'class {name!r} has {count} of {rows} training rows; train.class_weights = "balanced" makes it count as much as others'
            found.append(Finding("rare-class", "note" if weighted else "warning", told, name, count / rows))
    return found


def find_untested(test: Mapping[str, int], kind: TaskKind) -> list[Finding]:
    """Classes that the score says nothing of."""
    found = []
    for name, count in test.items():
        if count < _FEWEST_TESTED:
            told = f"class {name!r} has {count} test rows: what is said of it is chance"
            found.append(Finding("untested-class", "warning" if not count and kind == "classification" else "note", told, name))
    return found


def _few(rows: int) -> list[Finding]:
    if rows >= _FEWEST_TEST_ROWS:
        return []
    told = f"{rows} test rows: a score of 0.9 may be {0.9 - 1.96 * (0.09 / rows) ** 0.5:.2f} as well"
    return [Finding("few-test-rows", "note", told)]
