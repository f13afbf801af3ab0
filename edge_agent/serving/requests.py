"""Whether a request fits the model: names, types, shapes, lengths, values. Pure; every protocol asks here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edge_agent.catalogue import ModelView
from edge_agent.inference.validation import MAX_PIXEL, range_of
from edge_agent.serving.datatypes import datatype_of, dtype_named
from edge_agent.serving.refusals import Refused
from fleet_contract import limits, tensors
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput
from fleet_contract.tensors import ANY, STRING, DType, TensorSpec

Reader = Callable[[DType, list[int]], "np.ndarray"]


@dataclass(frozen=True)
class _Bounds:
    """`floor` .. `ceiling` is what every column allows."""

    low: np.ndarray
    high: np.ndarray
    floor: float
    ceiling: float

    def hold(self, array: np.ndarray) -> bool:
        """NaN is inside of nothing. Of few values most of the time goes to calls, and array.min() makes two more than its ufunc."""
        if np.minimum.reduce(array, axis=None) >= self.floor and np.maximum.reduce(array, axis=None) <= self.ceiling:
            return True
        return bool((array >= self.low).all() and (array <= self.high).all())


@dataclass(frozen=True)
class GivenTensor:
    """As a caller sent it. `datatype` is the protocol's name. `data` are the tensor's bytes on the wire, or what makes the array of values that
    came in another form: it is called once type and shape are known to fit, and raises ValueError, TypeError or OverflowError."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes | memoryview | Reader


class Checker:
    """Holds requests to the signature of one model."""

    def __init__(self, view: ModelView) -> None:
        signature = view.signature
        self.view = view
        self._specs = {spec.name: spec for spec in (*signature.inputs, *signature.optional)}
        self._required = frozenset(spec.name for spec in signature.inputs)
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._bounds = _bounds(view.input)

    def read(self, given: Sequence[GivenTensor]) -> dict[str, np.ndarray]:
        """The model's inputs. Raises Refused (bad-tensor, unsupported, not-finite, out-of-range) naming the tensor."""
        arrays: dict[str, np.ndarray] = {}
        rows: int | None = None
        for tensor in given:
            spec = self._spec(tensor.name)
            if tensor.name in arrays:
                raise Refused(f"input {tensor.name!r} is given twice", code="bad-tensor")
            _check_form(tensor, spec, rows)
            arrays[tensor.name] = array = _array(tensor, spec)
            required = tensor.name in self._required
            if required and spec.shape[:1] == [ANY]:
                rows = len(array)
            _check_values(array, spec, self._bounds if required else None, self.view.input)
        if not self._required <= arrays.keys():
            raise Refused(f"input {min(self._required - arrays.keys())!r} is missing", code="bad-tensor")
        return arrays

    def outputs(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """The outputs that a caller asked for; all when it named none. Raises Refused (bad-tensor)."""
        names = tuple(wanted)
        unknown = [name for name in names if name not in self._outputs]
        if unknown or len({*names}) != len(names):
            told = f"no output {unknown[0][:80]!r}" if unknown else "an output is asked for twice"
            raise Refused(f"{told}; model {self.view.name!r} gives {', '.join(self._outputs)}", code="bad-tensor")
        return names or self._outputs

    def _spec(self, name: str) -> TensorSpec:
        spec = self._specs.get(name)
        if spec is None:
            raise Refused(f"no input {name[:80]!r}; model {self.view.name!r} takes {', '.join(self._specs)}", code="bad-tensor")
        return spec


class Checkers:
    """The checker of each model; made anew when its view is another object."""

    def __init__(self) -> None:
        self._made: dict[str, Checker] = {}

    def of(self, view: ModelView) -> Checker:
        checker = self._made.get(view.name)
        if checker is None or checker.view is not view:
            checker = self._made[view.name] = Checker(view)
        return checker


def _check_form(tensor: GivenTensor, spec: TensorSpec, rows: int | None) -> None:
    if dtype_named(tensor.datatype) != spec.dtype:
        raise Refused(f"input {spec.name!r} is {datatype_of(spec.dtype)}, not {tensor.datatype}", code="bad-tensor")
    shape, wanted = tensor.shape, spec.shape
    if min(shape, default=0) < 0 or not tensors.fits(shape, wanted):
        raise Refused(f"input {spec.name!r} has shape {_shown(wanted)}, not {shape[: limits.MAX_TENSOR_RANK]}", code="bad-tensor")
    if prod(shape) > limits.MAX_INPUT_VALUES:
        raise Refused(f"input {spec.name!r} has {prod(shape)} values, at most {limits.MAX_INPUT_VALUES}", code="too-large")
    if wanted and wanted[0] == ANY and (shape[0] == 0 or rows not in (None, shape[0])):
        raise Refused(f"input {spec.name!r} has {shape[0]} rows, not {rows or 'one or more'}", code="bad-tensor")


def _array(tensor: GivenTensor, spec: TensorSpec) -> np.ndarray:
    try:
        if not callable(tensor.data):
            return tensors.decode(spec.dtype, tensor.shape, tensor.data)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which the values' check sees
            array = tensor.data(spec.dtype, tensor.shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(f"input {spec.name!r}: {error}", code="bad-tensor") from error
    if array.shape != tuple(tensor.shape):
        raise Refused(f"input {spec.name!r} holds {array.size} values, its shape says {prod(tensor.shape)}", code="bad-tensor")
    return array


def _check_values(array: np.ndarray, spec: TensorSpec, bounds: _Bounds | None, source: InputSpec) -> None:
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise Refused(f"input {spec.name!r} holds bytes other than 0 and 1", code="bad-tensor")
    if bounds is not None and bounds.hold(array):
        return
    if spec.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused(f"input {spec.name!r} holds NaN or infinity", code="not-finite")
    if bounds is not None:
        raise Refused(_out_of_range(array, bounds, source), code="out-of-range")


def flat_reader(values: Sequence) -> Reader:
    """Of values in row-major order."""

    def read(dtype: DType, shape: list[int]) -> np.ndarray:
        if len(values) != prod(shape):
            raise ValueError(f"{len(values)} values for the shape {shape}")
        array = np.empty(len(values), object if dtype == STRING else dtype)
        array[:] = values
        return array.reshape(shape)

    return read


def _bounds(spec: InputSpec) -> _Bounds | None:
    if isinstance(spec, TensorsInput):
        return None
    low, high = range_of(spec)
    return _Bounds(low, high, float(low.max()), float(high.min()))


def _out_of_range(array: np.ndarray, bounds: _Bounds, spec: InputSpec) -> str:
    """Names the first value that is outside."""
    where = np.argwhere((array < bounds.low) | (array > bounds.high))[0]
    value = array[tuple(where)]
    if isinstance(spec, ImageInput):
        return f"row {where[0]} holds the pixel value {value:g}, outside 0 .. {MAX_PIXEL:g}"
    column = 0 if len(spec.columns) == 1 else int(where[-1])
    return f"row {where[0]}: {spec.columns[column]} is {value:g}, outside {spec.low[column]:g} .. {spec.high[column]:g}"


def _shown(shape: list[int]) -> str:
    return "[" + ", ".join("any" if axis == ANY else str(axis) for axis in shape) + "]"
