"""Whether a model fits a board: facts about the model against a hardware profile, as values; nothing is run here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from firmware_profiles.catalog import Backend, Profile
from model_tools.boards.operators import NEEDED, taken_by
from model_tools.boards.workload import Workload, peak_bytes

Coverage = Literal["all", "part", "unknown", "none"]
_MB = 1024**2


@dataclass(frozen=True)
class Speed:
    """Of one core, roughly: a layer of a small network reaches about half of this, and a busy board less."""

    float_macs_per_s: float
    int8_macs_per_s: float
    bytes_per_s: float
    step_s: float


_SPEEDS = {
    "x86_64": Speed(12e9, 24e9, 8e9, 2e-6),
    "aarch64": Speed(4e9, 8e9, 3e9, 6e-6),
    "armv7l": Speed(0.8e9, 1.5e9, 1e9, 25e-6),
}
ESTIMATE_FACTOR = 4.0
"""Estimates are right within this factor, upwards and downwards, more often than not."""
_ENGINE_MB = {"onnxruntime": 60.0, "litert": 25.0}
"""Code and tables of the engine with numpy beside it."""
_WEIGHTS_HELD = 2.0
"""The file as it was read, and the weights as the kernels like them."""


@dataclass(frozen=True)
class Subject:
    """A model as a board sees it. `latency_ms` None: nobody set a limit."""

    runtime: str
    precision: str
    file_bytes: int
    work: Workload
    memory_mb: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Fit:
    """How one backend takes the model. `share` is that of the steps that it computes itself; None where nobody lists what it takes."""

    backend: str
    kind: str
    coverage: Coverage
    share: float | None
    reason: str
    left: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """`reasons` say why it does not fit; none: it does. Estimates are of the CPU, which every board falls back on."""

    fits: bool
    reasons: Sequence[str]
    warnings: Sequence[str]
    backends: Sequence[Fit]
    macs: int
    weight_bytes: int
    peak_bytes: int
    memory_mb: float
    estimated_ms: float


def judge(subject: Subject, profile: Profile, measured_ms: float | None = None) -> Verdict:
    """`measured_ms` where this machine is of the board's architecture: it counts instead of the estimate where it is longer."""
    work = subject.work
    memory, estimate = memory_mb(subject), estimated_ms(subject, profile)
    backends = [_fit(subject, backend) for backend in profile.backends]
    reasons = [*_unusable(subject, profile, backends), *_too_large(subject, profile, memory), *_too_slow(subject, estimate, measured_ms)]
    return Verdict(
        not reasons, reasons, _warnings(subject, backends), backends, work.macs, work.weight_bytes, peak_bytes(work), memory, estimate
    )


def memory_mb(subject: Subject) -> float:
    """What a worker needs, roughly: the engine, the weights twice, and the activations at their peak."""
    held = _WEIGHTS_HELD * max(subject.file_bytes, subject.work.weight_bytes) + peak_bytes(subject.work)
    return _ENGINE_MB[subject.runtime] + held / _MB


def estimated_ms(subject: Subject, profile: Profile) -> float:
    """By the roofline (Williams et al. 2009) of the CPU: the longer of arithmetic and traffic, plus a fixed price a step. Within a factor of four."""
    speed, work = _SPEEDS[profile.architecture], subject.work
    rate = speed.int8_macs_per_s if subject.precision == "int8" else speed.float_macs_per_s
    arithmetic = work.macs / (rate * profile.worker.threads)
    return 1e3 * (max(arithmetic, work.moved_bytes / speed.bytes_per_s) + speed.step_s * len(work.steps))


def _fit(subject: Subject, backend: Backend) -> Fit:
    def told(coverage: Coverage, reason: str, share: float | None = None, left: Sequence[str] = ()) -> Fit:
        return Fit(backend.id, backend.kind, coverage, share, reason, left)

    if not backend.supported:
        return told("none", backend.reason)
    if backend.runtime != subject.runtime:
        return told("none", f"runs {backend.runtime}, the model is for {subject.runtime}")
    if subject.precision not in backend.precisions:
        return told("none", f"takes {', '.join(backend.precisions)}, the model is {subject.precision}")
    known = taken_by(backend)
    if known is None:
        return told("all", "", 1.0) if backend.kind == "cpu" else told("unknown", "the board's own trial tells")
    left = sorted({step.operator for step in subject.work.steps} - known)
    share = sum(step.operator in known for step in subject.work.steps) / max(1, len(subject.work.steps))
    return told(
        "part" if left and share else "none" if left else "all",
        "the CPU computes the rest" if left else NEEDED.get(backend.name, ""),
        share,
        left,
    )


def _unusable(subject: Subject, profile: Profile, backends: Sequence[Fit]) -> list[str]:
    if any(one.coverage != "none" for one in backends):
        return []
    told = "; ".join(f"{one.backend} {one.reason}" for one in backends)
    return [f"no backend of {profile.name} takes a {subject.precision} model for {subject.runtime}: {told}"]


def _too_large(subject: Subject, profile: Profile, memory: float) -> list[str]:
    bounds = {"the worker of the profile": profile.worker.memory_mb, "the bundle's limits": subject.memory_mb}
    return [
        f"needs about {memory:.0f} MB, and {who} may take {most:g}" for who, most in bounds.items() if most is not None and memory > most
    ]


def _too_slow(subject: Subject, estimate: float, measured: float | None) -> list[str]:
    """An estimate refuses only when it is over the limit by more than it may be wrong."""
    limit = subject.latency_ms
    if limit is None:
        return []
    if measured is not None and measured > limit:
        return [f"takes {measured:.3g} ms here, and {limit:g} are allowed"]
    if measured is None and estimate > ESTIMATE_FACTOR * limit:
        return [f"takes about {estimate:.3g} ms (estimated), and {limit:g} are allowed"]
    return []


def _warnings(subject: Subject, backends: Sequence[Fit]) -> list[str]:
    told = [f"{one.backend} leaves {', '.join(one.left)} to the CPU" for one in backends if one.coverage == "part"]
    if subject.work.unknown:
        told.append(f"{len(subject.work.unknown)} tensors have no known shape: the peak of activations is a lower bound")
    return told
