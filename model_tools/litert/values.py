"""An ONNX tensor as it lies in the TFLite graph.

Engines of TFLite want channels last where ONNX has them second. A tensor (rows, channels, height, width) that came out of a convolution lies as
(rows, height, width, channels) until somebody needs it otherwise; one of (rows, channels, length) as (rows, 1, length, channels).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_tools.errors import BadInput
from model_tools.litert.drawing import Drawing

ANY = -1
_RANKS = (3, 4)


@dataclass(frozen=True)
class Value:
    """`shape` is the ONNX tensor's, ANY for the rows. `last`: it lies with channels last. `positive`: nothing in it is below 0."""

    index: int
    shape: tuple[int, ...]
    last: bool = False
    positive: bool = False

    @property
    def lying(self) -> tuple[int, ...]:
        return last_shape(self.shape) if self.last else self.shape


def last_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Of (rows, channels, [height,] width), with channels last."""
    rows, channels, *sides = shape
    return (rows, *([1] if len(sides) == 1 else []), *sides, channels)


def last_axis(axis: int, rank: int) -> int:
    """Where an ONNX axis lies."""
    return axis if axis == 0 else 3 if axis == 1 else axis - 1 + (rank == 3)


def constant_last(values: np.ndarray, rank: int) -> np.ndarray:
    """A constant that is to meet a tensor of `rank` axes that lies with channels last."""
    wide = values.reshape((1,) * (rank - values.ndim) + values.shape)
    return np.moveaxis(wide[:, :, None, :] if rank == 3 else wide, 1, -1)


class Layouts:
    """Moves values between the two ways of lying."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    def to_last(self, value: Value) -> Value:
        """Raises BadInput for what has not three or four axes."""
        if value.last:
            return value
        if len(value.shape) not in _RANKS:
            raise BadInput(f"channels of a tensor with {len(value.shape)} axes cannot be last", field="model", limit=4)
        source = value
        if len(value.shape) == 3:
            rows, channels, length = value.shape
            source = self.reshape(value, (rows, channels, 1, length))
        moved = self._permute(source, (0, 2, 3, 1))
        return replace(value, index=moved.index, last=True)

    def to_plain(self, value: Value) -> Value:
        if not value.last:
            return value
        moved = self._permute(replace(value, shape=value.lying, last=False), (0, 3, 1, 2))
        return self.reshape(moved, value.shape) if len(value.shape) == 3 else replace(value, index=moved.index, last=False)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """numpy.transpose of a plain value."""
        return self._permute(value, tuple(order))

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Of a plain value; the rows stay open where they were."""
        if tuple(shape) == value.shape:
            return value
        if list(shape).count(ANY) > 1:
            raise BadInput(f"a reshape to {list(shape)} has two open axes", field="model", limit=1)
        made = self._drawing.tensor(f"{self._name(value)}/reshape", shape)
        target = self._drawing.constant("shape", np.array(shape, np.int32))
        self._drawing.add("RESHAPE", [value.index, target], [made], newShape=list(shape))
        return replace(value, index=made, shape=tuple(shape))

    def _permute(self, value: Value, order: tuple[int, ...]) -> Value:
        shape = tuple(value.shape[axis] for axis in order)
        wide = [axis for axis in order if value.shape[axis] != 1]
        if wide == sorted(wide):
            return self.reshape(value, shape)  # nothing but axes of length 1 moves
        made = self._drawing.tensor(f"{self._name(value)}/transpose", shape)
        self._drawing.add("TRANSPOSE", [value.index, self._drawing.constant("order", np.array(order, np.int32))], [made])
        return replace(value, index=made, shape=shape)

    def _name(self, value: Value) -> str:
        return self._drawing.tensors[value.index].name
