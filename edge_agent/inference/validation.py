"""Which inputs may reach the model. Pure."""

from collections.abc import Sequence

import numpy as np

from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.signature import row_shape

NOT_FINITE = "not-finite"
OUT_OF_RANGE = "out-of-range"
WRONG_SHAPE = "wrong-shape"
MAX_PIXEL = 255.0


def split(values: Sequence[np.ndarray], spec: ImageInput | VectorInput) -> tuple[np.ndarray, list[str | None]]:
    """The float32 batch (rows, *shape) of the inputs that may pass, in order, and for each given input the reason of its refusal or None."""
    shape = row_shape(spec)
    reasons: list[str | None] = [None if v.shape == shape and v.dtype.kind in "fiub" else WRONG_SHAPE for v in values]
    fitting = [at for at, reason in enumerate(reasons) if reason is None]
    if not fitting:
        return np.empty((0, *shape), np.float32), reasons
    batch = np.stack([values[at] for at in fitting]).astype(np.float32, copy=False)
    flat = batch.reshape(len(batch), -1)
    finite = np.isfinite(flat).all(axis=1)
    with np.errstate(invalid="ignore"):
        inside = ((flat >= _low(spec)) & (flat <= _high(spec))).all(axis=1)
    passed = finite & inside
    for row in np.flatnonzero(~passed):
        reasons[fitting[row]] = OUT_OF_RANGE if finite[row] else NOT_FINITE
    return (batch if passed.all() else batch[passed]), reasons


def _low(spec: ImageInput | VectorInput) -> np.ndarray | float:
    return 0.0 if isinstance(spec, ImageInput) else np.asarray(spec.low, np.float32)


def _high(spec: ImageInput | VectorInput) -> np.ndarray | float:
    return MAX_PIXEL if isinstance(spec, ImageInput) else np.asarray(spec.high, np.float32)
