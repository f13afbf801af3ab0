"""Streams, cut into windows as a device cuts them (fleet_contract.inputs.WindowInput): after they were split, so that no sample stands in two parts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fleet_contract import limits
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.split import Held, checked, choose_way, hold
from model_tools.data.vectors import Read
from model_tools.errors import BadData
from model_tools.sections import Split, SplitBy, TaskKind, WindowShape

_SLACK_PERIODS = 0.01
"""As on devices: a sample so little later than a point of the grid stands on it."""
_BLOCKS_COUNT = 60
_SAME_MOMENT_SHARE = 0.1


@dataclass(frozen=True)
class Stream:
    """`rows` in the file's order are the samples. Those at `order`, one after the other, follow each other where `runs` has one number."""

    rows: Dataset
    order: np.ndarray
    runs: np.ndarray


def split_stream(read: Read, rule: Split, kind: TaskKind, shape: WindowShape) -> Splits:
    """The windows of each part. Without a group or a time, the file's end is the test; by shares, runs of samples are chosen at random.

    Raises BadData: as split.split does, and for a part too short for a single window.
    """
    stream = to_stream(_noted(read), shape)
    by = choose_way(stream.rows, rule, "order")
    held = _hold_blocks(stream, rule, kind, shape) if by == "shares" else hold(stream.rows, rule, by, kind)
    part = np.zeros(len(stream.rows), np.int8)
    for number, at in enumerate(held, start=1):
        part[at] = number
    parts = [cut(stream, part, number, shape) for number in (0, 2, 1)]
    return windowed(parts, kind, by, shape)


def windowed(parts: Sequence[Dataset], kind: TaskKind, by: SplitBy, shape: WindowShape) -> Splits:
    """split.checked of windows. Raises BadData also where no window fits into a part."""
    for part, name in zip(parts, ("training", "validation", "test"), strict=True):
        if not len(part):
            told = f"no window of {shape.length} samples fits into what the split by {by} leaves for {name}: make input.length smaller"
            raise BadData(f"{told}, or the part larger", field="input.length", limit=shape.length)
    return checked(parts, kind, by)


def stride_of(shape: WindowShape) -> int:
    """Samples from one window to the next."""
    return shape.stride or max(1, shape.length // 2)


def _noted(read: Read) -> Read:
    """Warned of what seems to be several streams in one."""
    times = read.rows.times
    if times is None or read.groups is not None or len(np.unique(times)) > (1 - _SAME_MOMENT_SHARE) * len(times):
        return read
    told = "many rows have the time of another: if they are of several streams, name the column that tells them apart in split.group"
    return replace(read, rows=replace(read.rows, notes=(*read.rows.notes, told)))


def to_stream(read: Read, shape: WindowShape) -> Stream:
    """Each group's samples by time, or in the file's order. Raises BadData for windows by time of rows that have none."""
    if read.times is None and (shape.period_s or shape.gap_s):
        told = "windows by time need a column that says when: name it in split.time"
        raise BadData(told, field="input.period_s" if shape.period_s else "input.gap_s")
    owners = np.zeros(len(read.kept), np.int64) if read.groups is None else np.unique(read.groups, return_inverse=True)[1]
    order = np.argsort(owners, kind="stable") if read.times is None else np.lexsort((read.times, owners))
    begins = np.diff(owners[order], prepend=-1) != 0
    if shape.period_s is None:
        begins |= ~read.kept[order]  # no window goes over a row that could not be read
    kept = read.kept[order]
    runs = np.cumsum(begins)[kept]
    at = (np.cumsum(read.kept) - 1)[order][kept]
    return Stream(read.rows, at, runs + _pauses(read.rows.times, at, runs, shape))


def _pauses(times: np.ndarray | None, order: np.ndarray, runs: np.ndarray, shape: WindowShape) -> np.ndarray:
    """How many pauses, too long for a window, came before each sample: within one run (whose number it is added to) they end it."""
    longest = shape.gap_s or np.inf
    if shape.period_s is not None:
        longest = min(longest, (shape.length + _SLACK_PERIODS) * shape.period_s)
    if times is None or longest == np.inf:
        return np.zeros(len(order), np.int64)
    steps = np.diff(times[order], prepend=times[order[:1]])
    return np.cumsum((steps > longest) & (np.diff(runs, prepend=0) == 0))


def _hold_blocks(stream: Stream, rule: Split, kind: TaskKind, shape: WindowShape) -> Held:
    """Runs of consecutive samples, as if each was a group: long enough for a few windows, where that leaves enough of them."""
    count = len(stream.order)
    least = shape.length * (2 if count >= _BLOCKS_COUNT * shape.length else 1)
    longest = int(np.clip(count // _BLOCKS_COUNT, least, 16 * shape.length))
    begins = np.diff(stream.runs, prepend=-1) != 0
    starts = np.flatnonzero(begins)
    within = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))
    groups = np.empty(count, np.int64)
    groups[stream.order] = np.cumsum(begins | (within % longest == 0))
    return hold(replace(stream.rows, groups=tuple(map(str, groups.tolist()))), rule, "group", kind)


def cut(stream: Stream, part: np.ndarray, number: int, shape: WindowShape) -> Dataset:
    """The windows over the samples whose `part` is `number`. The label of a window is that of the sample, or samples, that `shape` says."""
    rows, stride = stream.rows, stride_of(shape)
    taken = part[stream.order] == number
    runs = np.cumsum((np.diff(stream.runs, prepend=-1) != 0) | (np.diff(taken.astype(np.int8), prepend=0) != 0))
    found = [window_at(at, shape.length, stride) for at in _runs_of(stream.order[taken], runs[taken], rows.times, shape)]
    windows = np.concatenate([np.zeros((0, shape.length), np.int64), *found])
    check_fits(len(windows), shape.length, len(rows.columns))
    newest = windows[:, -1]
    return replace(
        rows,
        inputs=rows.inputs[windows],
        labels=_label(rows.labels[windows], shape, len(rows.classes)),
        ids=tuple(rows.ids[at] if rows.groups is None else f"{rows.groups[at]}:{rows.ids[at]}" for at in windows[:, 0]),
        groups=None if rows.groups is None else tuple(rows.groups[at] for at in newest),
        times=None if rows.times is None else rows.times[newest],
    )


def window_at(samples: np.ndarray, length: int, stride: int) -> np.ndarray:
    """(windows, length) of the samples that follow each other."""
    if len(samples) < length:
        return np.zeros((0, length), np.int64)
    return sliding_window_view(samples, length)[::stride]


def check_fits(windows: int, length: int, columns: int) -> None:
    """Raises BadData where so many do not fit into memory together."""
    if length * columns > limits.MAX_WINDOW_VALUES:
        told = f"a window of {length} samples of {columns} columns is too large"
        raise BadData(told, field="input.length", limit=limits.MAX_WINDOW_VALUES)
    if 4 * windows * length * columns > limits.MAX_DATASET_BYTES:
        told = f"{windows} windows of {length} x {columns} values do not fit into memory: make input.stride larger"
        raise BadData(told, field="input.stride", limit=limits.MAX_DATASET_BYTES)


def _runs_of(order: np.ndarray, runs: np.ndarray, times: np.ndarray | None, shape: WindowShape) -> Iterator[np.ndarray]:
    """The samples of each run; by time those that stand at the points of its grid."""
    for at in np.split(order, np.flatnonzero(np.diff(runs)) + 1):
        if shape.period_s is None or times is None or not len(at):
            yield at
            continue
        slack_s = _SLACK_PERIODS * shape.period_s
        steps = int((times[at[-1]] - times[at[0]] + slack_s) // shape.period_s) + 1
        check_fits(steps // stride_of(shape), shape.length, 1)
        grid_s = times[at[0]] + shape.period_s * np.arange(steps)
        yield at[np.searchsorted(times[at], grid_s + slack_s, side="right") - 1]


def _label(labels: np.ndarray, shape: WindowShape, classes: int) -> np.ndarray:
    """(windows, length) to (windows,)."""
    if shape.label == "last" or not classes:
        return labels[:, -1]
    if shape.label == "any":
        return labels.max(axis=1, initial=0)
    counts = np.zeros((len(labels), classes), np.int64)
    np.add.at(counts, (np.arange(len(labels))[:, None], labels), 1)
    return counts.argmax(axis=1)
