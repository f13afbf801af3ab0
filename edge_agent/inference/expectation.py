"""What one model may be asked, and what a worker, which may be anybody's by then, may answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod

import numpy as np

from edge_agent.errors import Reject, Retry
from edge_agent.inference import planning
from edge_agent.inference.proving import Exam
from edge_agent.ports import Tensors
from fleet_contract import signature, tensors
from fleet_contract.manifest import Manifest
from fleet_contract.tensors import ANY, STRING, TensorSpec

_OPEN_TIMES = 4
_OPEN_BYTES = 4096
"""An axis that the signature leaves open may be so many times longer than in the known answers, and a few bytes more."""


_FEW_VALUES = 64
"""So few are looked at one by one sooner than numpy gets going."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One of the signature's. `kind` is None for strings; `inner` are all axes but the first, None where some are open."""

    spec: TensorSpec
    name: str
    kind: np.dtype | None
    first: int
    inner: tuple[int, ...] | None

    @classmethod
    def of(cls, spec: TensorSpec, first: int) -> _Tensor:
        kind = None if spec.dtype == STRING else np.dtype(spec.dtype)
        return cls(spec, spec.name, kind, first, None if ANY in spec.shape[1:] else tuple(spec.shape[1:]))

    def fits(self, shape: tuple[int, ...], first: int) -> bool:
        """`first` is what the first axis must be, ANY for any length."""
        if not shape or (first != ANY and shape[0] != first):
            return False
        if self.inner is not None:
            return shape[1:] == self.inner
        return tensors.fits(shape[1:], self.spec.shape[1:])


@dataclass(frozen=True, slots=True)
class Expectation:
    """`defaults` are given to the worker where the caller leaves them out. An answer has at most `row_bytes` for each row, and `fixed_bytes`."""

    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    defaults: Tensors
    row_bytes: int
    fixed_bytes: int

    def rows(self, inputs: Tensors) -> int:
        """How many the inputs have. Raises Retry (model-swapped) when they are not those of this model, Reject (bad-input) for several numbers."""
        rows = None
        for tensor in self.inputs:
            given = inputs.get(tensor.name)
            if given is None or not tensor.fits(given.shape, tensor.first):
                raise Retry(f"the batch does not fit the model's input {tensor.name!r} {tensor.spec.shape}", code="model-swapped")
            if rows not in (None, len(given)):
                raise Reject(f"inputs of {rows} and of {len(given)} rows", code="bad-input")
            rows = len(given)
        return rows or 0

    def complete(self, inputs: Tensors) -> Tensors:
        return {**self.defaults, **inputs} if self.defaults else inputs

    def max_bytes(self, rows: int) -> int:
        """Of an answer to so many rows."""
        return rows * self.row_bytes + self.fixed_bytes

    def check(self, outputs: Tensors, rows: int) -> None:
        """Raises Reject (wrong-answer, non-finite)."""
        for tensor in self.outputs:
            spec, given = tensor.spec, outputs.get(tensor.name)
            if given is None or not _is_of(given, tensor) or not tensor.fits(given.shape, rows if tensor.first == ANY else tensor.first):
                told = "missing" if given is None else f"{given.dtype} {given.shape}"
                raise Reject(f"the answer {spec.name!r} to {rows} rows is {told}, not {spec.dtype} {spec.shape}", code="wrong-answer")
            if spec.finite and not _is_finite(given):
                raise Reject(f"the answer {spec.name!r} is not finite", code="non-finite")


def expect(manifest: Manifest, known: Exam) -> Expectation:
    left = {state.output for state in manifest.states}
    specs = signature.signature_of(manifest).outputs
    outputs = [_Tensor.of(spec, spec.shape[0] if spec.name in left else ANY) for spec in specs]
    sizes = [_bytes(tensor, known.answers.get(tensor.name)) for tensor in outputs]
    return Expectation(
        inputs=tuple(_Tensor.of(spec, spec.shape[0]) for spec in signature.inputs_of(manifest.input)),
        outputs=tuple(outputs),
        defaults=planning.complete(manifest, {}),
        row_bytes=sum(row for row, _ in sizes),
        fixed_bytes=sum(fixed for _, fixed in sizes),
    )


def _bytes(tensor: _Tensor, known: np.ndarray | None) -> tuple[int, int]:
    """Of each row, and beside. A state has no known answers."""
    if tensor.kind is not None and tensor.inner is not None:
        inner_bytes = tensor.kind.itemsize * prod(tensor.inner)
        return (inner_bytes, 0) if tensor.first == ANY else (0, tensor.first * inner_bytes)
    known_bytes = 0 if known is None else len(tensors.encode(known)) // len(known) + 1
    return _OPEN_TIMES * known_bytes, _OPEN_BYTES


def _is_of(given: np.ndarray, tensor: _Tensor) -> bool:
    return given.dtype == tensor.kind if tensor.kind is not None else given.dtype.kind == "O"


def _is_finite(given: np.ndarray) -> bool:
    if given.dtype.kind != "f":
        return True
    if given.size <= _FEW_VALUES:
        return all(map(isfinite, given.ravel().tolist()))
    return bool(np.isfinite(given).all())
