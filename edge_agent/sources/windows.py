"""Windows over the samples of one stream, as WindowInput defines them. No I/O, no clock: time is what the samples say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fleet_contract.inputs import WindowInput

OUT_OF_ORDER = "out-of-order"
GAP = "gap"
_SLACK_PERIODS = 0.01
"""Times are rounded: a sample that is so little later than a point of the grid stands on it."""


@dataclass(frozen=True)
class Sample:
    """One row. `at_s` is since any fixed moment; `before` is the cursor from which it is read first, `cursor` that behind it."""

    at_s: float
    values: np.ndarray
    before: str | None
    cursor: str | None


@dataclass(frozen=True)
class Window:
    """float64 (length, columns). Read on from `cursor` and the next window is the same as if nothing had happened, but that its grid, by time, begins at
    its first sample, and that the samples between two windows that do not touch are not left out."""

    values: np.ndarray
    cursor: str | None
    follows: bool


class Windows:
    """Samples in, windows out. A refused sample counts as out-of-order; a window that is given up half full counts as a gap.
    After as many refused in a row as a window is long, it is the clock that has stepped: the stream begins anew."""

    def __init__(self, spec: WindowInput) -> None:
        self._spec = spec
        self._frame = _Frame(spec.length, spec.stride, len(spec.columns))
        self._last: Sample | None = None
        self._grid_s = 0.0
        self._grid_steps = 0
        self._refused = 0
        self._follows = True
        self.lost: Counter[str] = Counter()

    def add(self, sample: Sample, *, follows: bool = True) -> Iterator[Window]:
        """The windows that this sample completes: by count one at most; by time as many as end before it. `follows` False: one before it was lost."""
        last = self._last
        if last is not None and not self._is_next(sample, last):
            self.lost[OUT_OF_ORDER] += 1
            self._refused += 1
            if self._refused < self._spec.length:
                return
            last = None
        self._refused = 0
        if last is not None and (self._is_gap(sample.at_s - last.at_s) or (not follows and self._spec.by == "count")):
            last = None
        if last is None:
            self._begin(sample)
        yield from self._by_count(sample) if self._spec.by == "count" else self._by_time(sample, last)
        self._last = sample

    def _is_next(self, sample: Sample, last: Sample) -> bool:
        """Two samples at one moment follow each other by count; by time the second says nothing."""
        return sample.at_s > last.at_s or (self._spec.by == "count" and sample.at_s == last.at_s)

    def _is_gap(self, pause_s: float) -> bool:
        """By time a pause longer than a whole window is one, too: its windows would hold one sample again and again."""
        spec = self._spec
        too_long = spec.period_s is not None and pause_s > (spec.length + _SLACK_PERIODS) * spec.period_s
        return too_long or (spec.gap_s is not None and pause_s > spec.gap_s)

    def _begin(self, sample: Sample) -> None:
        if self._last is not None:
            self._follows = False
            self.lost[GAP] += self._frame.reset()
        self._last = None
        self._grid_s, self._grid_steps = sample.at_s, 0

    def _by_count(self, sample: Sample) -> Iterator[Window]:
        if self._frame.push(sample):
            yield self._window(sample.cursor)

    def _by_time(self, sample: Sample, last: Sample | None) -> Iterator[Window]:
        """A point of the grid is settled by the first sample that is not earlier."""
        period_s = self._spec.period_s or 1.0
        slack_s = _SLACK_PERIODS * period_s
        while (point_s := self._grid_s + self._grid_steps * period_s) <= sample.at_s + slack_s:
            newest = sample if last is None or sample.at_s <= point_s + slack_s else last
            self._grid_steps += 1
            if self._frame.push(newest):
                yield self._window(newest.cursor)

    def _window(self, cursor: str | None) -> Window:
        values, before = self._frame.pop()
        follows, self._follows = self._follows, True
        return Window(values, cursor if before is None else before, follows)


class _Frame:
    """The newest `length` rows, and where each is read from."""

    def __init__(self, length: int, stride: int, columns: int) -> None:
        self._length, self._stride = length, stride
        self._rows = np.empty((2 * length, columns))
        self._befores: list[str | None] = [None] * (2 * length)
        self._begin = self._end = self._skip = 0
        self._new = 0

    def push(self, sample: Sample) -> bool:
        """Whether the window is full."""
        if self._skip:
            self._skip -= 1
            return False
        if self._end == len(self._rows):
            self._move_to_front()
        self._rows[self._end] = sample.values
        self._befores[self._end] = sample.before
        self._end += 1
        self._new += 1
        return self._end - self._begin == self._length

    def pop(self) -> tuple[np.ndarray, str | None]:
        """The full window, and where its successor is read from (None: behind its last row)."""
        values = self._rows[self._begin : self._end].copy()
        self._begin = min(self._begin + self._stride, self._end)
        self._skip, self._new = max(0, self._stride - self._length), 0
        return values, self._befores[self._begin] if self._begin < self._end else None

    def reset(self) -> int:
        """Forget all; 1 when that loses rows that stood in no window yet."""
        lost = int(self._new > 0)
        self._begin = self._end = self._skip = self._new = 0
        return lost

    def _move_to_front(self) -> None:
        held = self._end - self._begin
        self._rows[:held] = self._rows[self._begin : self._end]
        self._befores[:held] = self._befores[self._begin : self._end]
        self._begin, self._end = 0, held
