"""From the words in a label column to class numbers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fleet_contract import limits
from model_tools.errors import BadData

_MISSING = {"", "nan"}
_FEWEST_PER_CLASS = 3
"""One row each for training, validation and test."""


def is_missing(word: str) -> bool:
    """An empty cell, or what numeric tools write for one."""
    return word.lower() in _MISSING


def name_classes(words: Sequence[str], declared: Sequence[str], field: str) -> tuple[str, ...]:
    """The classes in their order: as declared, or else those found (whole numbers by value, other words by alphabet).

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
        raise BadData(f"{len(classes)} classes, at most {limits.MAX_CLASSES}: is {field!r} a label?", field=field, limit=limits.MAX_CLASSES)
    if few := [c for c in classes if counts[c] < _FEWEST_PER_CLASS]:
        raise BadData(f"class {few[0]!r} has {counts[few[0]]} rows, at least {_FEWEST_PER_CLASS}", field=field, limit=_FEWEST_PER_CLASS)
    return classes


def number(words: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """int64 (rows,): each word's position in `classes`, all of which are known."""
    at = {name: i for i, name in enumerate(classes)}
    return np.array([at[word] for word in words], np.int64)


def _in_order(found: Counter[str]) -> tuple[str, ...]:
    whole = all(word.lstrip("-").isascii() and word.lstrip("-").isdigit() for word in found)
    return tuple(sorted(found, key=lambda word: (int(word), word)) if whole else sorted(found))
