"""What local applications asked of the fleet's model, in the form in which a source's inputs are recorded. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from edge_agent.ports import Inference, Input, Tensors
from edge_agent.sources.rows import JSON
from fleet_contract import limits
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput
from fleet_contract.messages import Follow
from fleet_contract.signature import inputs_of
from fleet_contract.tensors import ANY, TensorSpec


class Served(NamedTuple):
    """One answered request. `id` is its caller's name for it ("": none), `at_s` the monotonic time at which it came, `follow` the trace that its
    caller records."""

    id: str
    at_s: float
    inputs: Tensors
    inference: Inference
    follow: Follow | None = None

    @property
    def held_bytes(self) -> int:
        return sum([array.nbytes for array in (*self.inputs.values(), *self.inference.outputs.values())])

    @property
    def rows(self) -> int:
        return len(rows_of(self.inputs, self.inference.manifest.input))


def apart(served: Sequence[Served]) -> list[Sequence[Served]]:
    """In order, so that the first that is followed begins a part: of those that are recorded together, one can be."""
    first = next((at for at, one in enumerate(served) if one.follow is not None), 0)
    return [part for part in (served[:first], served[first:]) if part]


@dataclass(frozen=True)
class ServedBatch:
    """Requests that one bundle answered, as if they had been one; `inputs` and `latencies_us` are the rows'."""

    inference: Inference
    values: np.ndarray
    inputs: Sequence[Input]
    latencies_us: Sequence[int]


def rows_of(inputs: Tensors, spec: InputSpec) -> np.ndarray:
    """The tensor that is recorded, rows first; it is the only row of a model that takes no rows."""
    return _rows(inputs, inputs_of(spec)[0])


def _rows(inputs: Tensors, tensor: TensorSpec) -> np.ndarray:
    array = inputs[tensor.name]
    return array if tensor.shape[:1] in ([ANY], [1]) else array[None]


def batches_of(served: Sequence[Served], first: int, epoch: str, time_of: Callable[[float], datetime]) -> Iterator[ServedBatch]:
    """In order. The rows have the ordinals from `first` on; a request without a usable name is called by its first row's, which is its own in the
    `epoch` of the store. `time_of` tells the wall time of a monotonic one."""
    for _, alike in groupby(_with_rows(served), _kind):
        requests, values = zip(*alike, strict=True)
        inputs: list[Input] = []
        for request, rows in zip(requests, values, strict=True):
            name = _name(request.id, f"{epoch}-{first + len(inputs)}")
            inputs += _inputs(rows, request.inference.manifest.input, name, time_of(request.at_s))
        first += len(inputs)
        latencies_us = [request.inference.latency_us for request, rows in zip(requests, values, strict=True) for _ in rows]
        joined = values[0] if len(values) == 1 else np.concatenate(values)
        yield ServedBatch(_join([request.inference for request in requests]), joined, inputs, latencies_us)


def _with_rows(served: Sequence[Served]) -> Iterator[tuple[Served, np.ndarray]]:
    manifest = tensor = None
    for request in served:
        if request.inference.manifest is not manifest:
            manifest = request.inference.manifest
            tensor = inputs_of(manifest.input)[0]
        yield request, _rows(request.inputs, tensor)


def _kind(request: tuple[Served, np.ndarray]) -> tuple:
    """Equal for requests whose tensors can stand in one; nobody's where some tensor does not go by rows."""
    served, values = request
    outputs = served.inference.outputs
    if any(array.shape[:1] != values.shape[:1] for array in outputs.values()):
        return (id(served),)
    shapes = ((name, array.shape[1:], array.dtype) for name, array in outputs.items())
    return (served.inference.sha256, values.shape[1:], values.dtype, *shapes)


def _join(inferences: Sequence[Inference]) -> Inference:
    first = inferences[0]
    if len(inferences) == 1:
        return first
    return replace(first, outputs={name: np.concatenate([found.outputs[name] for found in inferences]) for name in first.outputs})


def _name(given: str, otherwise: str) -> str:
    return given if 0 < len(given) <= limits.MAX_REQUEST_ID_CHARS and given.isprintable() else otherwise


def _inputs(rows: np.ndarray, spec: InputSpec, name: str, at: datetime) -> Iterator[Input]:
    """What a person can be shown: of a picture its pixels, of columns their numbers, of other tensors nothing."""
    match spec:
        case TensorsInput():
            shown = ((b"", None) for _ in rows)
        case ImageInput():
            shown = ((b"", row) for row in (rows if rows.dtype == np.uint8 else np.rint(rows).astype(np.uint8)))
        case _:
            shown = ((msgspec.json.encode(row.tolist()), row) for row in rows)
    for number, (data, values) in enumerate(shown):
        yield Input(f"{name}:{number}", at, None, JSON if data else "", data, values)
