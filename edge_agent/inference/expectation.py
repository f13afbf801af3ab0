"""What one model may be asked, and what a worker, which may be anybody's by then, may answer. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edge_agent.errors import Reject, Retry
from edge_agent.inference import planning
from edge_agent.inference.proving import Exam, fits
from edge_agent.ports import Tensors
from fleet_contract import signature, tensors
from fleet_contract.manifest import Manifest
from fleet_contract.tensors import ANY, STRING, TensorSpec

_OPEN_TIMES = 4
_OPEN_BYTES = 4096
"""An axis that the signature leaves open may be so many times longer than in the known answers, and a few bytes more."""


@dataclass(frozen=True)
class _Answered:
    """`rows`: the first axis counts them. At most `row_bytes` for each, and `fixed_bytes` beside."""

    spec: TensorSpec
    rows: bool
    row_bytes: int
    fixed_bytes: int


@dataclass(frozen=True)
class Expectation:
    """`defaults` are given to the worker where the caller leaves them out."""

    inputs: tuple[TensorSpec, ...]
    defaults: Tensors
    outputs: tuple[_Answered, ...]

    def rows(self, inputs: Tensors) -> int:
        """How many the inputs have. Raises Retry (model-swapped) when they are not those of this model, Reject (bad-input) for several numbers."""
        for spec in self.inputs:
            given = inputs.get(spec.name)
            if given is None or not fits(given, spec.shape):
                raise Retry(f"the batch does not fit the model's input {spec.name!r} {spec.shape}", code="model-swapped")
        counts = {len(inputs[spec.name]) for spec in self.inputs}
        if len(counts) != 1:
            raise Reject(f"inputs of {' and '.join(map(str, sorted(counts)))} rows", code="bad-input")
        return counts.pop()

    def complete(self, inputs: Tensors) -> Tensors:
        return {**self.defaults, **inputs} if self.defaults else inputs

    def max_bytes(self, rows: int) -> int:
        """Of an answer to so many rows."""
        return sum(rows * output.row_bytes + output.fixed_bytes for output in self.outputs)

    def check(self, outputs: Tensors, rows: int) -> None:
        """Raises Reject (wrong-answer, non-finite)."""
        for output in self.outputs:
            spec, given = output.spec, outputs.get(output.spec.name)
            if given is None or tensors.dtype_of(given) != spec.dtype or not _has_shape(given.shape, output, rows):
                told = "missing" if given is None else f"{given.dtype} {given.shape}"
                raise Reject(f"the answer {spec.name!r} to {rows} rows is {told}, not {spec.dtype} {spec.shape}", code="wrong-answer")
            if spec.finite and given.dtype.kind == "f" and not np.isfinite(given).all():
                raise Reject(f"the answer {spec.name!r} is not finite", code="non-finite")


def expect(manifest: Manifest, known: Exam) -> Expectation:
    left = {state.output for state in manifest.states}
    specs = signature.signature_of(manifest).outputs
    outputs = [_whole(spec) if spec.name in left else _by_rows(spec, known.answers[spec.name]) for spec in specs]
    return Expectation(signature.inputs_of(manifest.input), planning.complete(manifest, {}), tuple(outputs))


def _has_shape(shape: Sequence[int], output: _Answered, rows: int) -> bool:
    wanted = (rows, *output.spec.shape[1:]) if output.rows else output.spec.shape
    return len(shape) == len(wanted) and all(axis in (ANY, length) for axis, length in zip(wanted, shape, strict=True))


def _whole(spec: TensorSpec) -> _Answered:
    return _Answered(spec, rows=False, row_bytes=0, fixed_bytes=np.dtype(spec.dtype).itemsize * prod(spec.shape))


def _by_rows(spec: TensorSpec, known: np.ndarray) -> _Answered:
    if spec.dtype != STRING and ANY not in spec.shape[1:]:
        return _Answered(spec, rows=True, row_bytes=np.dtype(spec.dtype).itemsize * prod(spec.shape[1:]), fixed_bytes=0)
    known_bytes = len(tensors.encode(known)) // len(known) + 1
    return _Answered(spec, rows=True, row_bytes=_OPEN_TIMES * known_bytes, fixed_bytes=_OPEN_BYTES)
