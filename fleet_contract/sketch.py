"""Mergeable statistics of a stream: a histogram per feature on the reference's fixed, uniform edges, plus missing counts and moments.

Bin 0 counts values below `low`, the last bin those at or above `high`; between them `bins` bins of equal width.
Sketches on the same grid merge by addition, across windows, devices and sites. One value costs a few nanoseconds in micro-batches.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from fleet_contract import limits
from fleet_contract.errors import BadSketch


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
            if not (np.isfinite(feature.low) and np.isfinite(feature.high) and feature.low < feature.high):
                raise BadSketch(f"feature {feature.name!r} needs finite low < high", field=feature.name)


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


class Sketcher:
    """Accumulates micro-batches on one grid. Not thread-safe."""

    def __init__(self, grid: Grid) -> None:
        features = len(grid.features)
        self.grid = grid
        self._low = np.array([f.low for f in grid.features], np.float32)
        self._scale = np.array([grid.bins / (f.high - f.low) for f in grid.features], np.float32)
        self._stride = grid.bins + 2
        self._offset = np.arange(features, dtype=np.float32) * self._stride + 1
        self.reset()

    def reset(self) -> None:
        features = len(self.grid.features)
        self.rows = 0
        self._counts = np.zeros(features * self._stride, np.int64)
        self._missing = np.zeros(features, np.int64)
        self._moments = np.zeros((features, 2), np.float64)

    def add(self, batch: np.ndarray) -> None:
        """Count a float32 batch (rows, features). NaN and infinities count as missing. Raises BadSketch on another shape."""
        if batch.ndim != 2 or batch.shape[1] != len(self.grid.features):
            raise BadSketch(f"batch of shape {batch.shape} for {len(self.grid.features)} features", field="batch")
        finite = np.isfinite(batch)
        bad = not finite.all()
        values = np.where(finite, batch, self._low) if bad else batch
        at = np.subtract(values, self._low, dtype=np.float32)
        at *= self._scale
        np.clip(at, -1, self.grid.bins, out=at)
        np.floor(at, out=at)
        at += self._offset
        flat = at.astype(np.intp)
        self._counts += np.bincount((flat[finite] if bad else flat.ravel()), minlength=self._counts.size)
        if bad:
            self._missing += (~finite).sum(axis=0)
            values = np.where(finite, batch, 0)
        self._moments[:, 0] += values.sum(axis=0, dtype=np.float64)
        self._moments[:, 1] += np.einsum("ij,ij->j", values, values, dtype=np.float64)
        self.rows += len(batch)

    def sketch(self) -> Sketch:
        return Sketch(
            rows=self.rows,
            counts=self._counts.astype("<u4").tobytes(),
            missing=self._missing.astype("<u4").tobytes(),
            moments=self._moments.astype("<f8").tobytes(),
        )


def counts_of(sketch: Sketch, grid: Grid) -> np.ndarray:
    """int64 (features, bins + 2). Raises BadSketch when the sketch is not on this grid."""
    features = len(grid.features)
    if len(sketch.counts) != 4 * features * (grid.bins + 2) or len(sketch.missing) != 4 * features or len(sketch.moments) != 16 * features:
        raise BadSketch("the sketch is not on this grid", field="counts")
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
    return Sketch(
        rows=sum(s.rows for s in sketches),
        counts=np.asarray(counts).astype("<u4").tobytes(),
        missing=np.asarray(missing).astype("<u4").tobytes(),
        moments=np.asarray(moments).astype("<f8").tobytes(),
    )


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
    return reference


def encode_reference(reference: Reference) -> bytes:
    return msgspec.msgpack.encode(reference)
