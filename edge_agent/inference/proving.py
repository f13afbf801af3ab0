"""Holding a variant to its known answers and its limits. The rules are pure; `try_variant` asks a worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import Reject
from edge_agent.inference.child import Child
from edge_agent.inference.validation import shape_of
from edge_agent.ports import Clock
from firmware_profiles.catalog import Profile
from fleet_contract.bundle import KnownAnswers, Limits, Manifest, Tensor, Variant

_MAX_RUNS = 30
_MIN_RUNS = 3
_BUDGET_S = 2.0
_WARM_RUNS = 2
_WORTH_SWITCHING = 1.2


@dataclass(frozen=True)
class Candidate:
    variant: Variant
    provider: str

    @property
    def backend(self) -> str:
        return f"{self.variant.runtime}:{self.provider}"


@dataclass(frozen=True)
class Trial:
    """What a right variant showed. Latencies are of one input, seen by the supervisor."""

    candidate: Candidate
    latency_p50_us: float
    latency_max_us: float
    load_ms: float
    max_difference: float
    walls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exam:
    """The known inputs (rows, ...), at least one, and what one variant must answer (rows, classes) within its tolerance."""

    inputs: np.ndarray
    answers: np.ndarray
    tolerance: float

    def judge(self, answers: np.ndarray) -> float:
        """The largest absolute difference. Raises Reject (non-finite, wrong-answer)."""
        return difference(answers, self.answers, self.tolerance)


def exam_of(known: KnownAnswers, variant: Variant, manifest: Manifest) -> Exam:
    """Raises Reject (bundle)."""
    return Exam(inputs_of(known, manifest), answers_of(known, variant, manifest), variant.tolerance)


def candidates(manifest: Manifest, profile: Profile) -> list[Candidate]:
    """What this board may run, in the manifest's order, each on the first backend of the profile that has its runtime. Raises Reject (no-variant)."""
    if profile.name not in manifest.profiles and "any" not in manifest.profiles:
        raise Reject(f"the bundle fits {', '.join(manifest.profiles)}; this board is {profile.name}", code="no-variant")
    providers: dict[str, str] = {}
    for backend in profile.backends:
        runtime, _, provider = backend.partition(":")
        providers.setdefault(runtime, provider)
    found = [Candidate(variant, providers[variant.runtime]) for variant in manifest.variants if variant.runtime in providers]
    if not found:
        offered = sorted({variant.runtime for variant in manifest.variants})
        raise Reject(f"the bundle needs {', '.join(offered)}; this board has {', '.join(profile.backends)}", code="no-variant")
    return found


def choose(trials: Sequence[Trial]) -> Trial:
    """The first in the manifest's order that is at most a fifth slower than the fastest: order is the maker's preference, speed a reason to leave it."""
    fastest_us = min(trial.latency_p50_us for trial in trials)
    return next(trial for trial in trials if trial.latency_p50_us <= _WORTH_SWITCHING * fastest_us)


def array_of(tensor: Tensor) -> np.ndarray:
    """The values as float32, of whatever dtype they were packed in."""
    return np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape).astype(np.float32)


def inputs_of(known: KnownAnswers, manifest: Manifest) -> np.ndarray:
    """The known inputs, one batch of at least one row. Raises Reject (bundle)."""
    inputs = array_of(known.inputs)
    if inputs.shape[1:] != shape_of(manifest.input) or not len(inputs):
        raise Reject(f"known inputs of shape {inputs.shape} do not fit the model's input {shape_of(manifest.input)}", code="bundle")
    return inputs


def answers_of(known: KnownAnswers, variant: Variant, manifest: Manifest) -> np.ndarray:
    """What the variant must answer to every known input. Raises Reject (bundle)."""
    if variant.name not in known.outputs:
        raise Reject(f"there are no known answers of variant {variant.name!r}", code="bundle")
    answers = array_of(known.outputs[variant.name])
    wanted = (known.inputs.shape[0], len(manifest.output.classes))
    if answers.shape != wanted or not np.isfinite(answers).all():
        raise Reject(f"known answers of {variant.name!r} must be finite, of shape {wanted}, not {answers.shape}", code="bundle")
    return answers


def difference(answers: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    """The largest absolute difference. Raises Reject (non-finite, wrong-answer)."""
    if answers.shape != wanted.shape:
        raise Reject(f"the answers have shape {answers.shape}, not {wanted.shape}", code="wrong-answer")
    if not np.isfinite(answers).all():
        raise Reject(f"{int((~np.isfinite(answers)).sum())} of {answers.size} answers are not finite", code="non-finite")
    largest = float(np.abs(answers - wanted).max())
    if not largest <= tolerance:
        raise Reject(f"an answer is off by {largest:.4g}, at most {tolerance:g} is allowed", code="wrong-answer")
    return largest


def fast_enough(latency_p50_us: float, latency_ms: float) -> None:
    """Judges the median: on a busy board the slowest run tells of the neighbours. Raises Reject (too-slow)."""
    if latency_p50_us > 1000 * latency_ms:
        raise Reject(f"one input takes {latency_p50_us / 1000:.3g} ms, at most {latency_ms:g} ms is allowed", code="too-slow")


def try_variant(child: Child, candidate: Candidate, read: Callable[[], bytes], exam: Exam, limits: Limits, clock: Clock) -> Trial:
    """Load the model that `read` gives and hold it to everything. Raises Reject, ChildLost, or what `read` raises."""
    began_s = clock.monotonic_s()
    child.load(read)
    load_ms = 1000 * (clock.monotonic_s() - began_s)
    row_s = limits.latency_ms / 1000
    first = _ask(child, exam, row_s)
    latencies_us = _time(child, exam, row_s, clock)
    median_us = float(np.median(latencies_us))
    fast_enough(median_us, limits.latency_ms)
    largest = max(first, _ask(child, exam, row_s))  # a model may keep state: it must still be right
    return Trial(candidate, median_us, max(latencies_us), load_ms, largest, child.walls)


def _ask(child: Child, exam: Exam, row_s: float) -> float:
    return exam.judge(child.infer(exam.inputs, row_s * len(exam.inputs), exam.answers.size))


def _time(child: Child, exam: Exam, row_s: float, clock: Clock) -> list[float]:
    """Microseconds of single-input runs, warm, until the runs or the time budget are used up."""
    latencies_us: list[float] = []
    end_s = clock.monotonic_s() + _BUDGET_S
    for run in range(_WARM_RUNS + _MAX_RUNS):
        at = run % len(exam.inputs)
        began_s = clock.monotonic_s()
        child.infer(exam.inputs[at : at + 1], row_s, exam.answers.shape[1])
        now_s = clock.monotonic_s()
        if run >= _WARM_RUNS:
            latencies_us.append(1e6 * (now_s - began_s))
        if len(latencies_us) >= _MIN_RUNS and now_s > end_s:
            break
    return latencies_us
