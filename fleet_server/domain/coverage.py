"""Which sequence numbers of a stream are stored, as runs. Pure.

A run is (first, last, stride): a device may thin a batch to every second, fourth, ... of its records, and the numbers between were dropped there.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

MAX_RUNS = 10_000
"""A device that leaves more holes than this gets its lowest ones closed: what fills them later counts as stored before."""


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`first`, `first + stride`, ..., `last`."""

    first: int
    last: int
    stride: int = 1

    @property
    def count(self) -> int:
        return (self.last - self.first) // self.stride + 1

    @property
    def numbers(self) -> range:
        return range(self.first, self.last + 1, self.stride)


@dataclass(frozen=True)
class Coverage:
    """Runs in ascending order, apart from each other. Where `plus` never said otherwise, every number below a run is missing or in a lower one."""

    runs: tuple[Run, ...] = ()

    @classmethod
    def load(cls, kept: bytes) -> "Coverage":
        """What `dump` gave, or b"" for none."""
        return cls(_runs.decode(kept)) if kept else cls()

    def dump(self) -> bytes:
        """msgpack of [first, last] or [first, last, stride], ascending."""
        return _encoder.encode([(run.first, run.last) if run.stride == 1 else (run.first, run.last, run.stride) for run in self.runs])

    @property
    def end(self) -> int:
        """One above the highest number."""
        return self.runs[-1].last + 1 if self.runs else 0

    def overlaps(self, wanted: Run) -> bool:
        """Whether the spans of `wanted` and of what is stored meet; where not, all of it is new."""
        at = self._from(wanted.first)
        return at < len(self.runs) and self.runs[at].first <= wanted.last

    def missing(self, wanted: Run) -> list[int]:
        """Those of its numbers that are not stored."""
        if not self.overlaps(wanted):
            return list(wanted.numbers)
        return [number for number in wanted.numbers if not self._holds(number)]

    def plus(self, new: Run) -> "Coverage":
        """With this run, whose numbers may be stored in part."""
        if not self.runs or new.first > self.runs[-1].last:
            return Coverage(_bounded((*self.runs[:-1], *_joined(self.runs[-1:], new))))
        if self.overlaps(new):
            return self._merged(new)
        at = self._from(new.first)
        near = _joined(self.runs[max(0, at - 1) : at], new)
        near = (*near[:-1], *_joined(near[-1:], self.runs[at]))
        return Coverage(_bounded((*self.runs[: max(0, at - 1)], *near, *self.runs[at + 1 :])))

    def closed_below(self, end: int) -> "Coverage":
        """With every number below `end` taken for stored."""
        if end <= 0:
            return self
        above = [_from(run, end) for run in self.runs if run.last >= end]
        return Coverage(_swept([Run(0, end - 1), *above]))

    def below(self, end: int) -> int:
        """How many of the numbers below `end` are stored."""
        return sum(len(range(run.first, min(run.last + 1, end), run.stride)) for run in self.runs)

    def first_hole(self, start: int = 0, end: int | None = None) -> int | None:
        """The lowest number from `start` to below `end` (default: the highest that is stored) that is not stored."""
        stop = self.end if end is None else end
        for number, after in self._gaps(start):
            if number >= stop:
                return None
            if after is None or number < after:
                return number
        return None

    def _gaps(self, start: int) -> Iterator[tuple[int, int | None]]:
        """Where a hole may begin, and before which number it ends."""
        at = start
        for run in self.runs:
            if run.last < at:
                continue
            yield at, run.first
            between = (number for number in range(max(at, run.first), run.last) if number not in run.numbers)
            hole = next(between, None) if run.stride > 1 else None
            if hole is not None:
                yield hole, None
            at = run.last + 1
        yield at, None

    def _from(self, number: int) -> int:
        """The place of the first run that ends at `number` or above."""
        return bisect_left(self.runs, number, key=lambda run: run.last)

    def _holds(self, number: int) -> bool:
        at = self._from(number)
        return at < len(self.runs) and number in self.runs[at].numbers

    def _merged(self, new: Run) -> "Coverage":
        """The exact way, for what should never meet: at the cost of the numbers that are new, however many a run of the same span holds."""
        low, high = self._from(new.first), bisect_right(self.runs, new.last, key=lambda run: run.first)
        near = self.runs[low:high]
        if new.stride == 1 and all(run.stride == 1 for run in near):
            whole = [Run(min(new.first, near[0].first), max(new.last, near[-1].last))]
        else:
            added = self.missing(new)
            whole = sorted([*runs_of(added), *(part for run in near for part in _cut(run, added))], key=lambda run: run.first)
        before = max(0, low - 1)
        touched = _swept([*self.runs[before:low], *whole, *self.runs[high : high + 1]])
        return Coverage(_bounded((*self.runs[:before], *touched, *self.runs[high + 1 :])))


def runs_of(numbers: Sequence[int]) -> tuple[Run, ...]:
    """Ascending numbers as runs of stride 1."""
    found: list[Run] = []
    for number in numbers:
        if found and number == found[-1].last + 1:
            found[-1] = Run(found[-1].first, number)
        else:
            found.append(Run(number, number))
    return tuple(found)


def _cut(run: Run, numbers: Sequence[int]) -> Iterator[Run]:
    """Apart where one of these ascending numbers, none of which it has, lies between two of its own."""
    for number in numbers[bisect_right(numbers, run.first) : bisect_left(numbers, run.last)]:
        if number > run.first:
            last = run.first + (number - run.first) // run.stride * run.stride
            yield _plain(Run(run.first, last, run.stride))
            run = Run(last + run.stride, run.last, run.stride)
    yield _plain(run)


def _plain(run: Run) -> Run:
    return Run(run.first, run.last) if run.count == 1 else run


def _from(run: Run, low: int) -> Run:
    """Its numbers from `low` on; there are some."""
    skipped = max(0, -(-(low - run.first) // run.stride))
    return Run(run.first + skipped * run.stride, run.last, run.stride)


def _swept(runs: Sequence[Run]) -> tuple[Run, ...]:
    found: list[Run] = []
    for run in runs:
        found[-1:] = _joined(tuple(found[-1:]), run)
    return tuple(found)


def _joined(before: tuple[Run, ...], new: Run) -> tuple[Run, ...]:
    """`new` and the run right before it as one where they are."""
    if before and before[0].stride == new.stride and before[0].last + new.stride == new.first:
        return (Run(before[0].first, new.last, new.stride),)
    if before and new.count == 1 and before[0].last + before[0].stride == new.first:
        return (Run(before[0].first, new.last, before[0].stride),)
    return (*before, _plain(new))


def _bounded(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    surplus = len(runs) - MAX_RUNS
    return runs if surplus <= 0 else (Run(runs[0].first, runs[surplus].last), *runs[surplus + 1 :])


_runs = msgspec.msgpack.Decoder(tuple[Run, ...])
_encoder = msgspec.msgpack.Encoder()
