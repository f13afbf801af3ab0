"""Holding a variant to its known answers and its limits on one backend. The rules are pure; `try_variant` asks a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import Reject
from edge_agent.inference import planning
from edge_agent.inference.child import Child
from edge_agent.ports import Clock, Measurement, Tensors
from firmware_profiles.catalog import Backend, Profile
from fleet_contract import signature, tensors
from fleet_contract.bundle import KnownAnswers
from fleet_contract.manifest import Limits, Manifest, Variant

_MAX_RUNS = 200
_MIN_RUNS = 3
_BUDGET_S = 2.0
_WARM_RUNS = 2
RIGHT = "right"


@dataclass(frozen=True)
class Candidate:
    variant: Variant
    backend: Backend


@dataclass(frozen=True)
class Exam:
    """The known inputs, rows first, at least one row, and what one variant must answer within its tolerance. Of a model with states, row by row."""

    manifest: Manifest
    inputs: Tensors
    answers: Tensors
    tolerance: float

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def row(self, at: int) -> Tensors:
        return {name: values[at : at + 1] for name, values in self.inputs.items()}

    def max_bytes(self, rows: int) -> int:
        """Of an answer to so many rows, at most."""
        whole = sum(values.nbytes for values in self.answers.values()) // self.rows * rows
        return whole + sum(np.dtype(state.dtype).itemsize * int(np.prod(state.shape)) for state in self.manifest.states)

    def judge(self, answers: Tensors) -> float:
        """The largest absolute difference. Raises Reject (non-finite, wrong-answer)."""
        return max(difference(answers[name], wanted, self.tolerance) for name, wanted in self.answers.items())


def exam_of(known: KnownAnswers, candidate: Candidate, profile: Profile, manifest: Manifest) -> Exam:
    """Raises Reject (bundle)."""
    answers = answers_of(known, candidate.variant, manifest)
    largest = max((float(np.abs(values).max()) for values in answers.values() if values.size and values.dtype.kind == "f"), default=0.0)
    share = profile.tolerance_of(candidate.backend, candidate.variant.precision)
    return Exam(manifest, inputs_of(known, manifest), answers, max(candidate.variant.tolerance, share * largest))


def candidates(manifest: Manifest, profile: Profile) -> list[Candidate]:
    """Every variant on every backend of this board that may take it, in the manifest's order and then the profile's. Raises Reject (no-variant)."""
    if profile.name not in manifest.profiles and "any" not in manifest.profiles:
        raise Reject(f"the bundle fits {', '.join(manifest.profiles)}; this board is {profile.name}", code="no-variant")
    found = [Candidate(v, b) for v in manifest.variants for b in profile.backends if _fits(v, b)]
    if not found:
        offered = sorted({variant.runtime for variant in manifest.variants})
        has = ", ".join(backend.id for backend in profile.backends if backend.supported)
        raise Reject(f"the bundle needs {', '.join(offered)}; this board has {has}", code="no-variant")
    return found


def _fits(variant: Variant, backend: Backend) -> bool:
    meant = not variant.backends or backend.name in variant.backends
    return backend.supported and meant and variant.runtime == backend.runtime and variant.precision in backend.precisions


def inputs_of(known: KnownAnswers, manifest: Manifest) -> dict[str, np.ndarray]:
    """The known inputs in the signature's types, as many rows of each, at least one. Raises Reject (bundle)."""
    specs = signature.inputs_of(manifest.input)
    missing = [spec.name for spec in specs if spec.name not in known.inputs]
    if missing:
        raise Reject(f"there are no known inputs {', '.join(missing)}", code="bundle")
    inputs = {spec.name: tensors.to_array(known.inputs[spec.name]).astype(spec.dtype, copy=False) for spec in specs}
    if len({len(values) if values.ndim else 0 for values in inputs.values()} | {0}) != 2:
        raise Reject("the known inputs must have as many rows each, and at least one", code="bundle")
    for spec in specs:
        if not tensors.fits(inputs[spec.name].shape, spec.shape):
            raise Reject(f"known inputs of shape {inputs[spec.name].shape} do not fit {spec.name!r}: {spec.shape}", code="bundle")
    return inputs


def answers_of(known: KnownAnswers, variant: Variant, manifest: Manifest) -> dict[str, np.ndarray]:
    """What the variant must answer to every known input, by output. Raises Reject (bundle)."""
    if variant.name not in known.outputs:
        raise Reject(f"there are no known answers of variant {variant.name!r}", code="bundle")
    left = {state.output for state in manifest.states}
    specs = {spec.name: spec for spec in signature.signature_of(manifest).outputs if spec.name not in left}
    given = {name: tensors.to_array(tensor) for name, tensor in known.outputs[variant.name].items()}
    if {*given} != {*specs}:
        raise Reject(f"known answers of {variant.name!r} are of {', '.join(given)}, not {', '.join(specs)}", code="bundle")
    rows = {tensor.shape[0] if tensor.shape else 0 for tensor in known.inputs.values()} or {0}
    for name, values in given.items():
        of = f"known answers of {variant.name!r}: {name!r}"
        if not tensors.fits(values.shape, specs[name].shape) or {len(values)} != rows:
            raise Reject(f"{of} of shape {values.shape} must have {specs[name].shape}, {min(rows)} rows", code="bundle")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Reject(f"{of} must be finite", code="bundle")
    return given


def difference(answers: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    """The largest absolute difference. Raises Reject (non-finite, wrong-answer)."""
    if answers.shape != wanted.shape:
        raise Reject(f"the answers have shape {answers.shape}, not {wanted.shape}", code="wrong-answer")
    if answers.dtype.kind not in "fiu":
        if not (answers == wanted).all():
            raise Reject("an answer is another", code="wrong-answer")
        return 0.0
    if not np.isfinite(answers).all():
        raise Reject(f"{int((~np.isfinite(answers)).sum())} of {answers.size} answers are not finite", code="non-finite")
    largest = float(np.abs(answers.astype(np.float64) - wanted).max(initial=0.0))
    if not largest <= tolerance:
        raise Reject(f"an answer is off by {largest:.4g}, at most {tolerance:g} is allowed", code="wrong-answer")
    return largest


def fast_enough(latency_p50_us: float, latency_ms: float) -> None:
    """Judges the median: on a busy board the slowest run tells of the neighbours. Raises Reject (too-slow)."""
    if latency_p50_us > 1000 * latency_ms:
        raise Reject(f"one input takes {latency_p50_us / 1000:.3g} ms, at most {latency_ms:g} ms is allowed", code="too-slow")


def try_variant(child: Child, candidate: Candidate, read: Callable[[], bytes], exam: Exam, bounds: Limits, clock: Clock) -> Measurement:
    """Load the model that `read` gives and hold it to everything. Raises Reject, ChildLost, or what `read` raises."""
    began_s = clock.monotonic_s()
    child.load(read)
    load_ms = 1000 * (clock.monotonic_s() - began_s)
    row_s = bounds.latency_ms / 1000
    first = ask(child, exam, row_s)
    latencies_us = _time(child, exam, row_s, clock)
    median_us, slow_us = (float(value) for value in np.percentile(latencies_us, (50, 99)))
    fast_enough(median_us, bounds.latency_ms)
    largest = max(first, ask(child, exam, row_s))  # a model may keep what it should not: it must still be right
    return Measurement(
        variant=candidate.variant.name,
        backend=candidate.backend.id,
        verdict=RIGHT,
        latency_p50_us=median_us,
        latency_p99_us=slow_us,
        memory_bytes=child.memory_bytes(),
        load_ms=load_ms,
        max_difference=largest,
    )


def ask(child: Child, exam: Exam, row_s: float) -> float:
    """The largest difference of its answers to all known inputs. Raises as `Exam.judge` does, or ChildLost."""
    return exam.judge(answer_all(exam, lambda inputs, rows: child.infer(inputs, row_s * rows, exam.max_bytes(rows))))


def answer_all(exam: Exam, infer: Callable[[Tensors, int], Tensors]) -> Tensors:
    """At once; step by step where there are states."""
    if not exam.manifest.states:
        return infer(planning.complete(exam.manifest, exam.inputs), exam.rows)
    steps = list(_steps(exam, infer))
    return {name: np.concatenate([step[name] for step in steps]) for name in exam.answers}


def _steps(exam: Exam, infer: Callable[[Tensors, int], Tensors]) -> Iterator[Tensors]:
    state: dict[str, np.ndarray] = {}
    for at in range(exam.rows):
        outputs = infer(planning.complete(exam.manifest, {**exam.row(at), **state}), 1)
        state = planning.left_over(exam.manifest, outputs)
        yield outputs


def _time(child: Child, exam: Exam, row_s: float, clock: Clock) -> list[float]:
    """Microseconds of single-input runs, warm, until the runs or the time budget are used up."""
    latencies_us: list[float] = []
    end_s = clock.monotonic_s() + _BUDGET_S
    for run in range(_WARM_RUNS + _MAX_RUNS):
        inputs = planning.complete(exam.manifest, exam.row(run % exam.rows))
        began_s = clock.monotonic_s()
        child.infer(inputs, row_s, exam.max_bytes(1))
        now_s = clock.monotonic_s()
        if run >= _WARM_RUNS:
            latencies_us.append(1e6 * (now_s - began_s))
        if len(latencies_us) >= _MIN_RUNS and now_s > end_s:
            break
    return latencies_us
