"""From the words in a label column to class numbers, or to the numbers that a regression is to estimate."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fleet_contract import cells, limits
from fleet_contract.outputs import ANOMALY, NORMAL
from model_tools.errors import BadData
from model_tools.task import Task

_MISSING = {"", "nan"}
_USUALLY_NORMAL = {"normal", "ok", "good", "no", "false", "0"}
_FEWEST_PER_CLASS = 3
"""One row each for training, validation and test."""
_MOST_NUMBERED_CLASSES = 20


def is_missing(word: str) -> bool:
    """An empty cell, or what numeric tools write for one."""
    return word.lower() in _MISSING


def name_classes(words: Sequence[str], declared: Sequence[str], field: str, least: int = _FEWEST_PER_CLASS) -> tuple[str, ...]:
    """The classes in their order: as declared, or else those found (numbers by value, other words by alphabet).

    Raises BadData (field `field`) when there is one class only, too many, a class with too few rows, one that was not declared,
    or a label that the server could not store.
    """
    counts = Counter(words)
    if unfit := [word for word in counts if len(word) > limits.MAX_LABEL_CHARS or "\0" in word]:
        raise BadData(f"label {unfit[0][:40]!r} is too long, or holds a NUL", field=field, limit=limits.MAX_LABEL_CHARS)
    if unknown := [word for word in counts if declared and word not in declared]:
        raise BadData(f"label {unknown[0]!r} is not among output.classes ({', '.join(declared)})", field=field)
    classes = tuple(declared) or _in_order(counts)
    if len(counts) < 2:
        raise BadData(f"every label is {next(iter(counts), 'missing')!r}: a classification needs two classes", field=field, limit=2)
    if len(classes) > limits.MAX_CLASSES:
        told = f"{len(classes)} classes, at most {limits.MAX_CLASSES}: is {field!r} a label?{_hint(counts)}"
        raise BadData(told, field=field, limit=limits.MAX_CLASSES)
    if few := [c for c in classes if counts[c] < least]:
        raise BadData(f"class {few[0]!r} has {counts[few[0]]} rows, at least {least}{_hint(counts)}", field=field, limit=least)
    return classes


def _hint(counts: Counter[str]) -> str:
    """Where there are more different numbers than anybody has classes."""
    numbers = len(counts) > _MOST_NUMBERED_CLASSES and all(_is_number(word) for word in counts)
    return '; a number that is to be estimated is a regression: task.kind = "regression"' if numbers else ""


def _is_number(word: str) -> bool:
    try:
        cells.to_number(word)
    except ValueError:
        return False
    return True


def read_targets(
    task: Task, words: Sequence[str] | None, rows: int, field: str, least: int = _FEWEST_PER_CLASS
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and classes as in Dataset of so many rows; None where nothing is known but that they are normal. `least`: rows of each class.
    Raises BadData (field `field`)."""
    if words is None:
        return np.zeros(rows, np.int64), (NORMAL, ANOMALY)
    if task.kind == "regression":
        return _numbers(words, field), ()
    if task.kind == "anomaly":
        return _anomalies(words, task.output.normal, field), (NORMAL, ANOMALY)
    classes = name_classes(words, task.output.classes, field, least)
    return number(words, classes), classes


def _numbers(words: Sequence[str], field: str) -> np.ndarray:
    values = np.empty(len(words), np.float32)
    for row, word in enumerate(words):
        try:
            values[row] = cells.to_number(word)
        except ValueError:
            raise BadData(f"row {row + 1}: the target {word[:40]!r} is no number", field=field, limit=f"row {row + 1}") from None
    if not (fits := np.abs(values) <= limits.MAX_TABLE_SCALE).all():
        row = int(fits.argmin()) + 1
        raise BadData(f"row {row}: the target is not a finite number within {limits.MAX_TABLE_SCALE:g}", field=field, limit=f"row {row}")
    if np.ptp(values) == 0:
        raise BadData(f"every target is {values[0]:g}: there is nothing to estimate", field=field)
    return values


def _anomalies(words: Sequence[str], normal: Sequence[str], field: str) -> np.ndarray:
    healthy = {*normal} or _USUALLY_NORMAL
    found = np.array([(word if normal else word.lower()) not in healthy for word in words], np.int64)
    if found.all():
        told = ", ".join(sorted(healthy))
        raise BadData(f"no row is normal ({told}): say in output.normal which labels are", field=field, limit=told)
    return found


def number(words: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """int64 (rows,): each word's position in `classes`, all of which are known."""
    at = {name: i for i, name in enumerate(classes)}
    return np.array([at[word] for word in words], np.int64)


def _in_order(found: Counter[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(found, key=lambda word: (cells.to_number(word), word)))
    except ValueError:
        return tuple(sorted(found))
