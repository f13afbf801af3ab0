"""What one model may be asked, and what a worker, which may be anybody's by then, may answer. Pure."""

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
    """`kind` is None for strings. `by_rows`: the first axis counts them, and `inner` are the others, None where some are open. At most `row_bytes` for
    each row, and `fixed_bytes` beside."""

    spec: TensorSpec
    kind: np.dtype | None
    by_rows: bool
    inner: tuple[int, ...] | None
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
        counts = set()
        for spec in self.inputs:
            given = inputs.get(spec.name)
            if given is None or not fits(given, spec.shape):
                raise Retry(f"the batch does not fit the model's input {spec.name!r} {spec.shape}", code="model-swapped")
            counts.add(len(given))
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
            if (
                given is None
                or (given.dtype != output.kind if output.kind else given.dtype.kind != "O")
                or not _fits(given.shape, output, rows)
            ):
                told = "missing" if given is None else f"{given.dtype} {given.shape}"
                raise Reject(f"the answer {spec.name!r} to {rows} rows is {told}, not {spec.dtype} {spec.shape}", code="wrong-answer")
            if spec.finite and given.dtype.kind == "f" and not np.logical_and.reduce(np.isfinite(given), axis=None):
                raise Reject(f"the answer {spec.name!r} is not finite", code="non-finite")


def expect(manifest: Manifest, known: Exam) -> Expectation:
    left = {state.output for state in manifest.states}
    specs = signature.signature_of(manifest).outputs
    outputs = [_whole(spec) if spec.name in left else _by_rows(spec, known.answers[spec.name]) for spec in specs]
    return Expectation(signature.inputs_of(manifest.input), planning.complete(manifest, {}), tuple(outputs))


def _fits(shape: tuple[int, ...], output: _Answered, rows: int) -> bool:
    if not output.by_rows:
        return shape == tuple(output.spec.shape)
    if output.inner is not None:
        return shape == (rows, *output.inner)
    wanted = (rows, *output.spec.shape[1:])
    return len(shape) == len(wanted) and all(axis in (ANY, length) for axis, length in zip(wanted, shape, strict=True))


def _whole(spec: TensorSpec) -> _Answered:
    kind = np.dtype(spec.dtype)
    return _Answered(spec, kind, by_rows=False, inner=None, row_bytes=0, fixed_bytes=kind.itemsize * prod(spec.shape))


def _by_rows(spec: TensorSpec, known: np.ndarray) -> _Answered:
    kind = None if spec.dtype == STRING else np.dtype(spec.dtype)
    inner = None if ANY in spec.shape[1:] else tuple(spec.shape[1:])
    if kind is not None and inner is not None:
        return _Answered(spec, kind, by_rows=True, inner=inner, row_bytes=kind.itemsize * prod(inner), fixed_bytes=0)
    known_bytes = len(tensors.encode(known)) // len(known) + 1
    return _Answered(spec, kind, by_rows=True, inner=inner, row_bytes=_OPEN_TIMES * known_bytes, fixed_bytes=_OPEN_BYTES)
