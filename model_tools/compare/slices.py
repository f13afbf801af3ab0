"""Parts of the rows in which a model may do otherwise than on the whole: where it is hot, one machine, the last quarter of the time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model_tools.data.dataset import Dataset, Splits

_QUARTERS = 4
_MOST_COLUMNS = 40
_MOST_GROUPS = 40
LEAST_ROWS = 10
"""Fewer show nothing of a slice."""


@dataclass(frozen=True)
class Slice:
    """`rows` are positions in the data set; `by` is a column, or one of class, group, time, brightness; `part` says which of it."""

    by: str
    part: str
    rows: np.ndarray


def slices(splits: Splits, rows: Dataset) -> list[Slice]:
    """Those with at least LEAST_ROWS rows, but not all rows. Bounds of columns are the quarters of the training rows, so that a slice stays the same later."""
    return [one for one in _all(splits, rows) if LEAST_ROWS <= len(one.rows) < len(rows)]


def resampling_units(rows: Dataset, stretch: int) -> np.ndarray:
    """int64 (rows,), what varies on its own: a group where groups are known, else `stretch` neighbouring rows (windows that overlap), else each row."""
    if rows.groups is not None:
        return np.unique(np.array(rows.groups), return_inverse=True)[1].astype(np.int64)
    return np.arange(len(rows)) // max(1, stretch)


def _all(splits: Splits, rows: Dataset) -> Iterator[Slice]:
    yield from _words("group", rows.groups)
    if rows.times is not None:
        yield from _quarters("time", np.asarray(rows.times, np.float64), np.asarray(rows.times, np.float64))
    if rows.inputs.ndim == 4:
        yield from _quarters("brightness", _levels(splits.train), _levels(rows))
        return
    for at, column in enumerate(rows.columns[:_MOST_COLUMNS]):
        yield from _quarters(column, _levels(splits.train, at), _levels(rows, at))


def _words(by: str, words: tuple[str, ...] | None) -> Iterator[Slice]:
    if words is None:
        return
    names, counts = np.unique(np.array(words), return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")][:_MOST_GROUPS]:
        yield Slice(by, str(name), np.flatnonzero(np.array(words) == name))


def _quarters(by: str, known: np.ndarray, values: np.ndarray) -> Iterator[Slice]:
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _QUARTERS + 1)[1:-1])) if len(known) else np.empty(0)
    part = np.searchsorted(edges, values, side="right")
    if not len(edges):
        return
    bounds = ["", *(f"{edge:.4g}" for edge in edges), ""]
    for at in range(len(edges) + 1):
        words = " to ".join(bounds[at : at + 2]) if 0 < at < len(edges) else (f"below {bounds[1]}" if at == 0 else f"from {bounds[at]}")
        yield Slice(by, words, np.flatnonzero(part == at))


def _levels(rows: Dataset, column: int | None = None) -> np.ndarray:
    """Of each row one number: a column's value, or its mean over a window or a picture."""
    inputs = rows.inputs if column is None else rows.inputs[..., column]
    return inputs.reshape(len(inputs), -1).mean(axis=1, dtype=np.float64) if inputs.ndim > 1 else inputs.astype(np.float64)
