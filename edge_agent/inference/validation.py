"""Which inputs may reach the model. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edge_agent.ports import Input
from fleet_contract import tensors
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.signature import inputs_of
from fleet_contract.tensors import ANY, STRING, TensorSpec

NOT_FINITE = "not-finite"
OUT_OF_RANGE = "out-of-range"
WRONG_SHAPE = "wrong-shape"
MAX_PIXEL = 255.0
_BATCH_VALUES = 2**20


@dataclass(frozen=True)
class Batch:
    """A micro-batch for the graph input `tensor`. `values` are those of the inputs at the places `passed`, and `begins` says which of these do not
    follow the one before; the other inputs were refused, `refused` says how many and why. `is_broken`: the last one was."""

    tensor: str
    inputs: Sequence[Input]
    values: np.ndarray
    passed: Sequence[int]
    begins: Sequence[bool]
    refused: Mapping[str, int]
    is_broken: bool


def fed_by_source(spec: InputSpec) -> TensorSpec | None:
    """The tensor that a source's inputs are rows of; None where only local applications can feed the model."""
    first, *others = inputs_of(spec)
    is_fed = not others and first.dtype != STRING and first.shape[:1] in ([ANY], [1])
    return first if is_fed else None


def batch_rows(spec: InputSpec, most: int) -> int:
    """How many inputs go to the model at once: fewer of large ones, since several batches are in memory; one where shapes may differ."""
    tensor = inputs_of(spec)[0]
    if tensor.shape[0] != ANY or ANY in tensor.shape[1:]:
        return 1
    return max(1, min(most, _BATCH_VALUES // max(1, prod(tensor.shape[1:]))))


def check(inputs: Sequence[Input], spec: InputSpec, *, after_break: bool) -> Batch:
    """`after_break`: the input before the first was refused."""
    readable = [row for row, taken in enumerate(inputs) if taken.values is not None]
    values, verdicts = split([inputs[row].values for row in readable], spec)
    reasons = [taken.refusal or "unreadable" for taken in inputs if taken.values is None] + [v for v in verdicts if v is not None]
    passed = [row for row, verdict in zip(readable, verdicts, strict=True) if verdict is None]
    last = -2 if after_break else -1
    begins = [row != before + 1 or not inputs[row].follows for before, row in zip([last, *passed], passed, strict=False)]
    return Batch(
        inputs_of(spec)[0].name, inputs, values, passed, begins, Counter(reasons), is_broken=not passed or passed[-1] != len(inputs) - 1
    )


def split(values: Sequence[np.ndarray], spec: InputSpec) -> tuple[np.ndarray, list[str | None]]:
    """The batch (rows, *shape) of the inputs that may pass, in order, and for each given input the reason of its refusal or None.
    Pictures of bytes stay bytes."""
    tensor = inputs_of(spec)[0]
    shape, kinds = tensor.shape[1:], "fiub" if tensor.dtype.startswith("float") else np.dtype(tensor.dtype).kind
    reasons: list[str | None] = [None if tensors.fits(v.shape, shape) and v.dtype.kind in kinds else WRONG_SHAPE for v in values]
    fitting = [at for at, reason in enumerate(reasons) if reason is None]
    if not fitting:
        return np.empty((0, *(max(axis, 0) for axis in shape)), tensor.dtype), reasons
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        batch = np.stack([values[at] for at in fitting])
        if not (isinstance(spec, ImageInput) and batch.dtype == np.uint8):
            batch = batch.astype(tensor.dtype, copy=False)
    passed = _is_inside(batch, spec, tensor)
    if passed.all():
        return batch, reasons
    finite = _is_finite(batch)
    for row in np.flatnonzero(~passed):
        reasons[fitting[row]] = OUT_OF_RANGE if finite[row] else NOT_FINITE
    return batch[passed], reasons


def _is_finite(batch: np.ndarray) -> np.ndarray:
    return np.isfinite(batch.reshape(len(batch), prod(batch.shape[1:]))).all(axis=1)


def _is_inside(batch: np.ndarray, spec: InputSpec, tensor: TensorSpec) -> np.ndarray:
    """Finite, too, as far as that is asked: nothing compares with a NaN."""
    axes = tuple(range(1, batch.ndim))
    match spec:
        case ImageInput():
            low, high = range_of(spec)
            return (batch.min(axis=axes) >= low) & (batch.max(axis=axes) <= high) if batch.dtype.kind == "f" else _all(batch)
        case VectorInput() | WindowInput():
            samples = batch.reshape(len(batch), -1, len(spec.columns))
            low, high = range_of(spec)
            return ((samples.min(axis=1) >= low) & (samples.max(axis=1) <= high)).all(axis=1)
        case TensorsInput():
            return _is_finite(batch) if batch.dtype.kind == "f" and tensor.finite else _all(batch)


def range_of(spec: ImageInput | VectorInput | WindowInput) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value that may reach the model, float32: of pixels (), else (columns,)."""
    if isinstance(spec, ImageInput):
        return np.float32(0), np.float32(MAX_PIXEL)
    return _bounds(spec.low), _bounds(spec.high)


def _bounds(values: Sequence[float]) -> np.ndarray:
    """None is beyond float32, where infinity would be inside."""
    largest = float(np.finfo(np.float32).max)
    return np.clip(np.asarray(values, np.float64), -largest, largest).astype(np.float32)


def _all(batch: np.ndarray) -> np.ndarray:
    return np.ones(len(batch), bool)
