"""Mergeable statistics of a stream: a histogram per feature on the reference's fixed, uniform edges, plus missing counts and moments.

Bin 0 counts values below `low`, the last bin those at or above `high`; between them `bins` bins of equal width; inner edges are as
good as float32 is.
Sketches on the same grid merge by addition, across windows, devices and sites. One value costs a few nanoseconds in micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from fleet_contract import limits
from fleet_contract.errors import BadSketch

_FOLD_ROWS = 1_024
_FOLD_VALUES = 131_072
_WIDE_ROW = 2_048
"""Micro-batches wait until this many rows (or values) are there and are then counted at once, in rows this wide: measured optima."""
_COUNT_VALUES = 16_384
_SMALL_BATCH = 64
_MAX_COUNT = 2**32 - 1
_MAX_SCALE = 1e38


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scalar followed over time. `role` is "input" (before the model) or "output" (made by it)."""

    name: str
    role: str
    low: float
    high: float


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The edges that a bundle's reference fixes: the same for every feature's number of bins."""

    features: list[Feature]
    bins: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.features) <= limits.MAX_SKETCH_FEATURES:
            raise BadSketch(f"{len(self.features)} features", field="features", limit=limits.MAX_SKETCH_FEATURES)
        if not 2 <= self.bins <= limits.MAX_SKETCH_BINS:
            raise BadSketch(f"{self.bins} bins", field="bins", limit=limits.MAX_SKETCH_BINS)
        for feature in self.features:
            if not -limits.MAX_SKETCH_EDGE <= feature.low < feature.high <= limits.MAX_SKETCH_EDGE:
                raise BadSketch(f"feature {feature.name!r} needs finite low < high", field=feature.name, limit=limits.MAX_SKETCH_EDGE)
            if self.bins / (feature.high - feature.low) > _MAX_SCALE:
                raise BadSketch(f"feature {feature.name!r}: low and high are too near each other", field=feature.name)


class Sketch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wire form. `counts` is little-endian uint32 (features, bins + 2); `missing` (features,) uint32;
    `moments` float64 (features, 2): sum and sum of squares of the finite values."""

    rows: int
    counts: bytes
    missing: bytes
    moments: bytes


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One known, healthy state of the world (a lens, a season, a line), as seen in training. `features` names those it speaks for."""

    name: str
    features: list[str]
    sketch: Sketch


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the stream looked like when the model was made. A stream is healthy when it fits any one of the conditions."""

    grid: Grid
    conditions: list[Condition]

    def __post_init__(self) -> None:
        if not 1 <= len(self.conditions) <= limits.MAX_CONDITIONS:
            raise BadSketch(f"{len(self.conditions)} conditions", field="conditions", limit=limits.MAX_CONDITIONS)


Counter = Callable[["np.ndarray", int], "np.ndarray"]
"""How often each of 0 .. n - 1 stands in a flat, contiguous uint16 array (at most 131,072 values): n whole numbers."""


class Sketcher:
    """Accumulates micro-batches on one grid. Not thread-safe. A `counter` faster than numpy's takes its place where places fit 16 bits.

    Rows wait, as float32 distances from `low`, until a fold counts many at once: numpy's price is by the call and by the row.
    Moments are summed in float32 within a fold and in float64 from there on: good to 1e-6 of the sum of the distances.
    """

    def __init__(self, grid: Grid, counter: Counter | None = None) -> None:
        features = len(grid.features)
        low, scale = _float32_edges(grid)
        self.grid = grid
        self._stride = grid.bins + 2
        self._top = np.float32(grid.bins)
        self._capacity = max(1, min(_FOLD_ROWS, _FOLD_VALUES // features))
        self._tiles = max(1, min(self._capacity, _WIDE_ROW // features))
        small = features * self._stride <= np.iinfo(np.uint16).max + 1
        signed, self._unsigned = (np.int16, np.uint16) if small else (np.int32, np.uint32)
        self._counter = counter if small else None
        self._float32 = np.dtype(np.float32)
        self._features, self._low, self._low_rows = features, low, low[np.newaxis]
        self._scale = np.tile(scale, self._tiles)
        self._offset = np.tile((np.arange(features) * self._stride + 1).astype(signed), self._tiles)
        self._rows = np.empty((self._capacity, features), np.float32)
        self._places = np.empty(self._rows.size, signed)
        self._words = np.empty(min(self._rows.size, _COUNT_VALUES), np.intp)
        self.reset()

    def reset(self) -> None:
        features = len(self.grid.features)
        self.rows = 0
        self._waiting = 0
        self._counts = np.zeros(features * self._stride, np.int64)
        self._missing = np.zeros(features, np.int64)
        self._distances = np.zeros((2, features), np.float64)

    def add(self, batch: np.ndarray) -> None:
        """Count a float32 batch (rows, features); none of it is kept. NaN and infinities count as missing. Raises BadSketch on another shape."""
        end = self._waiting + len(batch) if batch.ndim else 0
        if batch.shape != self._low_rows.shape or batch.dtype is not self._float32 or end >= self._capacity:
            self._add_unusual(batch)
            return
        np.subtract(batch, self._low_rows, self._rows[self._waiting : end])
        self.rows += end - self._waiting
        self._waiting = end

    def _add_unusual(self, batch: np.ndarray) -> None:
        """Of another size than the last, of another type, or one that fills the buffer."""
        if batch.ndim != 2 or batch.shape[1] != self._features:
            raise BadSketch(f"batch of shape {batch.shape} for {self._features} features", field="batch")
        batch = _as_float32(batch)
        self.rows += len(batch)
        while self._waiting + len(batch) >= self._capacity:
            room = self._capacity - self._waiting
            np.subtract(batch[:room], self._low, self._rows[self._waiting :])
            self._fold(self._capacity)
            self._waiting, batch = 0, batch[room:]
        end = self._waiting + len(batch)
        np.subtract(batch, self._low, self._rows[self._waiting : end])
        self._waiting = end
        if 0 < len(batch) <= _SMALL_BATCH and len(batch) != len(self._low_rows):
            self._low_rows = np.tile(self._low, (len(batch), 1))  # to broadcast one row costs three times as much as to subtract

    def sketch(self) -> Sketch:
        """Of everything added since `reset`. Raises BadSketch when a count has outgrown 32 bits."""
        self._fold(self._waiting)
        self._waiting = 0
        low = self._low.astype(np.float64)
        finite = self.rows - self._missing
        total, squares = self._distances
        moments = np.stack([total + finite * low, squares + 2 * low * total + finite * low**2], axis=1)
        return _pack(self.rows, self._counts, self._missing, moments)

    def _fold(self, rows: int) -> None:
        """Count the waiting rows, several side by side in one long row where they fill it."""
        wide = rows // self._tiles * self._tiles
        with np.errstate(over="ignore", invalid="ignore"):
            if wide:
                self._count(self._rows[:wide].reshape(wide // self._tiles, -1))
            if wide < rows:
                self._count(self._rows[wide:rows])

    def _count(self, distances: np.ndarray) -> None:
        sums = self._by_feature(np.array((np.add.reduce(distances, 0), np.einsum("ij,ij->j", distances, distances)), np.float64))
        finite = None
        if not np.isfinite(sums).all():
            finite = np.isfinite(distances)
            distances[~finite] = 0
            sums = self._by_feature(np.array((distances.sum(0, np.float64), np.square(distances, dtype=np.float64).sum(0))))
            self._missing += self._by_feature((~finite).sum(0)[np.newaxis])[0]
        self._distances += sums
        at = self._place(distances)
        self._tally(at.ravel() if finite is None else at[finite])

    def _place(self, distances: np.ndarray) -> np.ndarray:
        """Position of each distance in the flat counts; one that overflows when scaled lands in the outer bin, where it belongs."""
        width = distances.shape[1]
        np.multiply(distances, self._scale[:width], distances)
        np.clip(distances, -1, self._top, distances)
        np.floor(distances, distances)
        places = self._places[: distances.size].reshape(distances.shape)
        np.copyto(places, distances, casting="unsafe")
        places += self._offset[:width]  # signed until here, for -1; what wraps around is right again as unsigned
        return places.view(self._unsigned)

    def _tally(self, at: np.ndarray) -> None:
        if self._counter:
            self._counts += self._counter(at, self._counts.size)
            return
        # in pieces that stay in a core's cache: bincount wants machine words, four times as wide as these
        for start in range(0, len(at), _COUNT_VALUES):
            piece = at[start : start + _COUNT_VALUES]
            words = self._words[: len(piece)]
            np.copyto(words, piece)
            self._counts += np.bincount(words, minlength=self._counts.size)

    def _by_feature(self, columns: np.ndarray) -> np.ndarray:
        return columns.reshape(len(columns), -1, self._features).sum(axis=1)


def _as_float32(batch: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 beyond float32 is as good as infinite
        return batch.astype(np.float32, copy=False)


def _float32_edges(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Each feature's low edge and bins per unit. The scale is rounded up, so that a value at `high` never falls below it."""
    low = np.array([f.low for f in grid.features], np.float32)
    high = np.array([f.high for f in grid.features], np.float32)
    span = (high - low).astype(np.float64)
    exact = np.array([f.high - f.low for f in grid.features])
    wanted = grid.bins / np.where(span > 0, span, exact)  # float32 may not tell the edges apart
    scale = wanted.astype(np.float32)
    return low, np.where(scale < wanted, np.nextafter(scale, np.float32(np.inf)), scale)


def _pack(rows: int, counts: np.ndarray, missing: np.ndarray, moments: np.ndarray) -> Sketch:
    if max(counts.max(initial=0), missing.max(initial=0)) > _MAX_COUNT:
        raise BadSketch("a count does not fit 32 bits: begin a new window", field="counts", limit=_MAX_COUNT)
    return Sketch(
        rows=rows, counts=counts.astype("<u4").tobytes(), missing=missing.astype("<u4").tobytes(), moments=moments.astype("<f8").tobytes()
    )


def counts_of(sketch: Sketch, grid: Grid) -> np.ndarray:
    """int64 (features, bins + 2). Raises BadSketch when the sketch is not on this grid."""
    features = len(grid.features)
    if len(sketch.counts) != 4 * features * (grid.bins + 2) or len(sketch.missing) != 4 * features or len(sketch.moments) != 16 * features:
        raise BadSketch("the sketch is not on this grid", field="counts")
    if sketch.rows < 0:
        raise BadSketch(f"{sketch.rows} rows", field="rows", limit=0)
    return np.frombuffer(sketch.counts, "<u4").reshape(features, grid.bins + 2).astype(np.int64)


def missing_of(sketch: Sketch) -> np.ndarray:
    """int64 (features,): how many values were not finite."""
    return np.frombuffer(sketch.missing, "<u4").astype(np.int64)


def moments_of(sketch: Sketch) -> np.ndarray:
    """float64 (features, 2): sum and sum of squares."""
    return np.frombuffer(sketch.moments, "<f8").reshape(-1, 2)


def merge(sketches: Sequence[Sketch], grid: Grid) -> Sketch:
    """The sketch of the streams together; associative and commutative. Raises BadSketch when one is not on `grid` or none is given."""
    if not sketches:
        raise BadSketch("nothing to merge", field="sketches")
    counts = sum(counts_of(s, grid) for s in sketches)
    missing = sum(missing_of(s) for s in sketches)
    moments = sum(moments_of(s) for s in sketches)
    return _pack(sum(s.rows for s in sketches), np.asarray(counts), np.asarray(missing), np.asarray(moments))


def decode_reference(data: bytes) -> Reference:
    """Read a bundle's reference (msgpack). Raises BadSketch."""
    if len(data) > limits.MAX_REFERENCE_BYTES:
        raise BadSketch(f"reference of {len(data)} bytes", field="reference", limit=limits.MAX_REFERENCE_BYTES)
    try:
        reference = msgspec.msgpack.decode(data, type=Reference)
    except (ValueError, RecursionError) as error:
        raise BadSketch(f"malformed reference: {error}", field="reference") from error
    for condition in reference.conditions:
        counts_of(condition.sketch, reference.grid)
        if unknown := {*condition.features} - {f.name for f in reference.grid.features}:
            raise BadSketch(f"condition {condition.name!r} speaks for {min(unknown)!r}, which the grid does not follow", field="features")
    return reference


def encode_reference(reference: Reference) -> bytes:
    return msgspec.msgpack.encode(reference)
