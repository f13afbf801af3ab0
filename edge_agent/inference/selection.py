"""Chosen by measurement: every usable pair of variant and backend is tried in a child of its own, and the fastest right one wins. A backend that
crashes, hangs, answers wrongly or is not there costs a line in the report."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_agent.errors import Reject, Unproven
from edge_agent.inference.child import ChildLost
from edge_agent.inference.proving import Candidate
from edge_agent.ports import Choice, Clock, Measurement
from firmware_profiles.availability import missing
from firmware_profiles.catalog import Backend

log = logging.getLogger(__name__)

BUDGET_S = 300.0
UNAVAILABLE = "unavailable"
NOT_TRIED = "not-tried"
_NOISE = 1.05
_MAX_MESSAGE_CHARS = 300
_ENGINES = {"onnxruntime": ("onnxruntime",), "litert": ("ai_edge_litert", "tflite_runtime")}

Attempt = Callable[[Candidate], tuple[Measurement, tuple[str, ...]]]
"""Tries one candidate in a child: what it showed, and the sandbox's walls. Raises Reject or ChildLost, with the verdict as code."""


@dataclass(frozen=True)
class Trial:
    """`refusal` is why the candidate will not run; None for a right one."""

    candidate: Candidate
    measurement: Measurement
    walls: tuple[str, ...] = ()
    refusal: Reject | None = None


@dataclass(frozen=True)
class Selection:
    chosen: Trial
    measurements: tuple[Measurement, ...]


def select(
    candidates: Sequence[Candidate], attempt: Attempt, lacks: Callable[[Backend], str | None], clock: Clock, budget_s: float = BUDGET_S
) -> Selection:
    """`lacks` says what a backend misses on this board, None for nothing; such a one is not tried. Once `budget_s` is used up only CPU backends
    still are, and these only until one is right or the same time has gone by again: whatever hangs, it ends, one trial later at most.
    Raises Unproven with the most telling refusal, or what `attempt` raises of Retry."""
    began_s = clock.monotonic_s()
    trials: list[Trial] = []
    for candidate in candidates:
        has_right = any(trial.measurement.is_right for trial in trials)
        granted_s = budget_s if has_right or candidate.backend.kind != "cpu" else 2 * budget_s
        late = clock.monotonic_s() - began_s >= granted_s
        trial = _refused(candidate, Reject(f"{granted_s:g} s were used up", code=NOT_TRIED)) if late else _try(candidate, attempt, lacks)
        log.info("%s on %s: %s", candidate.variant.name, candidate.backend.id, trial.measurement.verdict)
        trials.append(trial)
    measurements = tuple(trial.measurement for trial in trials)
    best = choose(measurements)
    if best is None:
        raise _telling(trials, measurements)
    return Selection(next(trial for trial in trials if trial.measurement is best), measurements)


def reselect(
    candidates: Sequence[Candidate], before: Choice | None, attempt: Attempt, lacks: Callable[[Backend], str | None], clock: Clock
) -> Selection:
    """`before` alone, if it is among them and right still: a start need not wait for backends that were slower, or hung, when they were measured.
    Else as `select`."""
    again = [one for one in candidates if before == Choice(one.variant.name, one.backend.id)]
    if again:
        try:
            return select(again, attempt, lacks, clock)
        except Unproven as error:
            log.warning("what was chosen before is not right any more: %s", error)
    return select(candidates, attempt, lacks, clock)


def choose(measurements: Sequence[Measurement]) -> Measurement | None:
    """The fastest right one; of those within a twentieth of it, which is noise, the one that takes the least memory."""
    right = [m for m in measurements if m.is_right]
    if not right:
        return None
    fastest_us = min(m.latency_p50_us for m in right)
    return min((m for m in right if m.latency_p50_us <= _NOISE * fastest_us), key=lambda m: m.memory_bytes)


def lacking(backend: Backend, root: Path) -> str | None:
    """What the board below `root`, or this Python, misses of a backend; found without loading anything."""
    if not any(find_spec(name) for name in _ENGINES[backend.runtime]):
        return f"{' or '.join(_ENGINES[backend.runtime])} is not installed"
    absent = missing(backend, root)
    return f"there is no {', '.join(absent)}" if absent else None


def _try(candidate: Candidate, attempt: Attempt, lacks: Callable[[Backend], str | None]) -> Trial:
    absent = lacks(candidate.backend)
    if absent is not None:
        return _refused(candidate, Reject(absent, code=UNAVAILABLE))
    try:
        measurement, walls = attempt(candidate)
    except (Reject, ChildLost) as error:
        code = UNAVAILABLE if error.code == "no-variant" else error.code
        return _refused(candidate, Reject(str(error), code=code))
    return Trial(candidate, measurement, walls)


def _refused(candidate: Candidate, refusal: Reject) -> Trial:
    message = "".join(letter if letter.isprintable() else " " for letter in str(refusal)[:_MAX_MESSAGE_CHARS])  # a worker's words
    return Trial(candidate, Measurement(candidate.variant.name, candidate.backend.id, refusal.code, message), refusal=refusal)


def _telling(trials: Sequence[Trial], measurements: tuple[Measurement, ...]) -> Unproven:
    """That of a CPU, which is there on every board, before an accelerator's; one that was tried before one that was not."""
    told = min(trials, key=lambda trial: (trial.measurement.verdict in (UNAVAILABLE, NOT_TRIED), trial.candidate.backend.kind != "cpu"))
    measured = told.measurement
    code = "no-variant" if measured.verdict in (UNAVAILABLE, NOT_TRIED) else measured.verdict
    return Unproven(f"variant {measured.variant!r} on {measured.backend}: {told.refusal}", code=code, measurements=measurements)
