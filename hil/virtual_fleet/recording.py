"""What a virtual device records: results, sketches and events, sealed into messages as a real agent's outbox seals them."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate

import numpy as np

from fleet_contract import batches
from fleet_contract.columns import ResultColumns, Words, buffer
from fleet_contract.instants import moment
from fleet_contract.messages import Batch, Event, Lane, SketchWindow, encode
from fleet_contract.sketch import Reference, Sketch, counts_of, missing_of

NO_BUNDLE = "0" * 64
"""Named by results of a device that was not ordered any."""
_LABELS = ("low", "high")
_LATENCY_US = 400
_MIX = 2_654_435_761


@dataclass(frozen=True)
class Recorder:
    """Of one device and one run of it. `seed` makes its values; the same sequence number has the same value."""

    epoch: str
    boot: str
    seed: int

    def results(self, first: int, count: int, *, at_us: int, mono_us: int, spacing_us: int, bundle: str, drift: float) -> bytes:
        """The message of `count` results, the last of them made at `at_us` (since 1970) and `mono_us`, the others each `spacing_us` before."""
        numbers = range(first, first + count)
        values = [((number * _MIX + self.seed) & 0xFFFFFFFF) / 2**32 + drift for number in numbers]
        names = [b"%d" % number for number in numbers]
        content = ResultColumns(
            at_us=_ramp(at_us, spacing_us, count),
            mono_us=_ramp(mono_us, min(spacing_us, mono_us // count), count),
            bundles=[bundle],
            bundle=b"",
            input_id=Words(b"".join(names), buffer("I", [*accumulate(map(len, names))])),
            labels=list(_LABELS),
            label=buffer("H", [value >= 0.5 for value in values]),
            value=buffer("d", values),
            latency_us=buffer("Q", [_LATENCY_US + int(value * 100) if value > 0 else _LATENCY_US for value in values]),
            abstained=b"",
            details=[],
        )
        return self._sealed(Lane.TELEMETRY, first, batches.seal(content))

    def event(self, number: int, kind: str, detail: dict, *, at_us: int, mono_us: int) -> bytes:
        return self._sealed(Lane.EVENTS, number, batches.pack(Lane.EVENTS, [Event(moment(at_us), kind, detail)], [mono_us]))

    def window(self, number: int, sketch: Sketch, *, bundle: str, first_input: int, at_us: int, mono_us: int, length_s: float) -> bytes:
        end = moment(at_us)
        window = SketchWindow(end - timedelta(seconds=length_s), end, bundle, first_input, sketch.rows, sketch)
        return self._sealed(Lane.SKETCHES, number, batches.pack(Lane.SKETCHES, [window], [mono_us]))

    def _sealed(self, lane: Lane, first: int, packed: batches.Packed) -> bytes:
        return encode(Batch(self.epoch, lane, first, packed.count, packed.codec, packed.length, packed.data, self.boot))


class Stream:
    """Windows as a healthy device would see them: drawn from a bundle's reference, and moved on command."""

    def __init__(self, reference: Reference) -> None:
        condition = reference.conditions[0].sketch
        counts = counts_of(condition, reference.grid).astype(np.float64)
        total = counts.sum(axis=1, keepdims=True)
        self._shares = np.divide(counts, total, out=np.full_like(counts, 1 / counts.shape[1]), where=total > 0)
        self._missing = missing_of(condition) / max(1, condition.rows)
        low = np.array([feature.low for feature in reference.grid.features])
        high = np.array([feature.high for feature in reference.grid.features])
        width = (high - low) / reference.grid.bins
        self._centres = low[:, None] + width[:, None] * (np.arange(reference.grid.bins + 2) - 0.5)
        self._bins = reference.grid.bins

    def window(self, rows: int, drift: float, draw: np.random.Generator) -> Sketch:
        """A sketch of `rows` inputs, moved by `drift` of the grid's width."""
        missing = draw.binomial(rows, self._missing)
        counts = draw.multinomial(rows - missing, _moved(self._shares, round(drift * self._bins)))
        sums = np.stack([(counts * self._centres).sum(1), (counts * self._centres**2).sum(1)], axis=1)
        return Sketch(rows, counts.astype("<u4").tobytes(), missing.astype("<u4").tobytes(), sums.astype("<f8").tobytes())


def _moved(shares: np.ndarray, bins: int) -> np.ndarray:
    """What would leave the grid stays in its outer bin."""
    places = np.clip(np.arange(shares.shape[1]) + bins, 0, shares.shape[1] - 1)
    moved = np.zeros_like(shares)
    np.add.at(moved, (slice(None), places), shares)
    return moved


def _ramp(last: int, spacing: int, count: int) -> bytes:
    """As differences, the first from 0."""
    return buffer("q", [last - spacing * (count - 1), *[spacing] * (count - 1)])
