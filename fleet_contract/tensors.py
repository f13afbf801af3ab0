"""Tensors on the wire and what is said of them: little-endian, C order, types named as in the Open Inference Protocol but for the strings' name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Literal

import msgspec
import numpy as np

from fleet_contract import limits
from fleet_contract.errors import BadBundle

DType = Literal["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "string"]
"""numpy's names. `string` is numpy's object: bytes of any length, each on the wire behind its length as `<I`."""
ANY = -1
"""An axis of any length."""
STRING = "string"
_LENGTH_BYTES = 4


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Tensor(_Struct):
    """Values. `data` is little-endian, in C order."""

    dtype: DType
    shape: list[int]
    data: bytes


class TensorSpec(_Struct):
    """What a tensor must be. The first axis of a graph's tensor counts rows, and is ANY unless the graph fixes it.
    `finite`: NaN and infinity are refused."""

    name: str
    dtype: DType
    shape: list[int]
    finite: bool = True

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > limits.MAX_TENSOR_NAME_CHARS:
            raise BadBundle(f"a tensor's name has {len(self.name)} characters", field="name", limit=limits.MAX_TENSOR_NAME_CHARS)
        if len(self.shape) > limits.MAX_TENSOR_RANK or min(self.shape, default=0) < ANY:
            raise BadBundle(f"tensor {self.name!r} has the shape {self.shape}", field="shape", limit=limits.MAX_TENSOR_RANK)
        if prod(axis for axis in self.shape if axis != ANY) > limits.MAX_INPUT_VALUES:
            raise BadBundle(f"tensor {self.name!r} of shape {self.shape} is too large", field="shape", limit=limits.MAX_INPUT_VALUES)


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is what a TensorSpec's asks for, axis by axis."""
    return len(shape) == len(wanted) and all(want in (ANY, axis) for axis, want in zip(shape, wanted, strict=True))


def dtype_of(array: np.ndarray) -> DType:
    """Raises ValueError for one that cannot be sent."""
    name = _names().get(array.dtype) or (STRING if array.dtype.kind in "OSU" else _names().get(array.dtype.newbyteorder("=")))
    if name is None:
        raise ValueError(f"an array of {array.dtype} is none of {', '.join(DType.__args__)}")
    return name


def encode(array: np.ndarray) -> bytes:
    """The values' bytes. Elements of a string array are bytes or text (as UTF-8). Raises ValueError."""
    dtype = dtype_of(array)
    if dtype != STRING:
        return array.astype(_on_wire()[dtype], copy=False).tobytes()
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    return b"".join(len(item).to_bytes(_LENGTH_BYTES, "little") + item for item in items)


def decode(dtype: DType, shape: list[int], data: bytes | memoryview) -> np.ndarray:
    """A read-only view where the type allows one. Raises ValueError when type, shape and length disagree."""
    if len(shape) > limits.MAX_TENSOR_RANK or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {shape}")
    count = prod(shape)
    if dtype == STRING:
        return _strings(data, count).reshape(shape)
    kind = _on_wire()[dtype]
    if count * kind.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for a {dtype} tensor of shape {shape}, not {count * kind.itemsize}")
    return np.frombuffer(data, kind).reshape(shape)


def to_array(tensor: Tensor) -> np.ndarray:
    """Raises ValueError when its fields disagree."""
    return decode(tensor.dtype, tensor.shape, tensor.data)


def of_array(array: np.ndarray) -> Tensor:
    """Raises ValueError for a type that cannot be sent."""
    return Tensor(dtype=dtype_of(array), shape=list(array.shape), data=encode(array))


@cache
def _names() -> dict[np.dtype, DType]:
    return {np.dtype(name): name for name in DType.__args__ if name != STRING}


@cache
def _on_wire() -> dict[DType, np.dtype]:
    return {name: dtype.newbyteorder("<") for dtype, name in _names().items()}


def _strings(data: bytes | memoryview, count: int) -> np.ndarray:
    if count * _LENGTH_BYTES > len(data):
        raise ValueError(f"{len(data)} bytes for {count} strings")
    items, at = np.empty(count, object), 0
    for number in range(count):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[start - _LENGTH_BYTES : start], "little")
        if start > len(data) or at > len(data):
            raise ValueError(f"string {number} ends behind the data")
        items[number] = bytes(data[start:at])
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last of {count} strings")
    return items
