"""How tensors lie in a payload: one after the other, each on a boundary that every engine can read from in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import msgspec
import numpy as np

from fleet_contract import limits, tensors
from fleet_contract.tensors import DType

ALIGNED_BYTES = 64
SLACK_BYTES = ALIGNED_BYTES * limits.MAX_TENSORS_COUNT
"""What the boundaries may add to the tensors' own bytes."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of `length` bytes; it begins on the next boundary behind the one before it."""

    name: str
    dtype: DType
    shape: list[int]
    length: int


@dataclass(frozen=True)
class Place:
    """`kind` is None for strings."""

    name: str
    kind: np.dtype | None
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """`is_plain`: there are no strings."""

    places: tuple[Place, ...]
    length: int
    is_plain: bool

    def write(self, arrays: Mapping[str, np.ndarray], view: memoryview, at: int) -> None:
        """What `describe` gave, into `view` from `at` on."""
        for place in self.places:
            array = arrays[place.name]
            np.ndarray(array.shape, array.dtype, view, at + place.start)[...] = array

    def join(self, arrays: Mapping[str, np.ndarray]) -> bytes:
        """What `describe` gave."""
        if len(self.places) == 1:
            return arrays[self.places[0].name].tobytes()
        parts, at = [], 0
        for place in self.places:
            parts += [bytes(place.start - at), arrays[place.name].tobytes()]
            at = place.stop
        return b"".join(parts)

    def read(self, payload: bytes | memoryview) -> dict[str, np.ndarray]:
        """Views where the types allow them. Raises ValueError for malformed strings or another length."""
        if len(payload) != self.length:
            raise ValueError(f"{len(payload)} bytes for tensors of {self.length}")
        return {place.name: _read(place, payload) for place in self.places}


def lay_out(heads: list[Head]) -> Layout:
    """Raises ValueError for heads that disagree with themselves."""
    places, stop = [], 0
    for head in heads:
        start = align(stop)
        stop = start + head.length
        places.append(Place(head.name, _kind(head), tuple(head.shape), start, stop))
    if len({head.name for head in heads}) != len(heads) or len(heads) > limits.MAX_TENSORS_COUNT:
        raise ValueError(f"{len(heads)} tensors must be distinct, and at most {limits.MAX_TENSORS_COUNT}")
    return Layout(tuple(places), stop, all(place.kind is not None for place in places))


def describe(arrays: Mapping[str, np.ndarray]) -> tuple[list[Head], Mapping[str, np.ndarray]]:
    """Heads, and arrays that hold the very bytes to be sent: the given ones themselves, unless there are strings or big-endian values among them.
    Raises ValueError for a type that cannot be sent."""
    plain = {name: array if _is_plain(array) else np.frombuffer(tensors.encode(array), np.uint8) for name, array in arrays.items()}
    heads = [Head(name, tensors.dtype_of(array), list(array.shape), plain[name].nbytes) for name, array in arrays.items()]
    return heads, arrays if all(plain[name] is array for name, array in arrays.items()) else plain


def align(at: int) -> int:
    return -(-at // ALIGNED_BYTES) * ALIGNED_BYTES


def _is_plain(array: np.ndarray) -> bool:
    return array.dtype.kind not in "OSU" and array.dtype == array.dtype.newbyteorder("<")


def _kind(head: Head) -> np.dtype | None:
    if head.length < 0 or len(head.shape) > limits.MAX_TENSOR_RANK or min(head.shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {head.shape} and {head.length} bytes")
    if head.dtype == tensors.STRING:
        return None
    kind = np.dtype(head.dtype).newbyteorder("<")
    if prod(head.shape) * kind.itemsize != head.length:
        raise ValueError(f"{head.length} bytes for a {head.dtype} tensor of shape {head.shape}")
    return kind


def _read(place: Place, payload: bytes | memoryview) -> np.ndarray:
    if place.kind is None:
        return tensors.decode(tensors.STRING, list(place.shape), payload[place.start : place.stop])
    return np.ndarray(place.shape, place.kind, payload, place.start)
