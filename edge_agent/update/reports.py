"""How an update's steps are told to the server: the kinds and details of its events."""

from collections.abc import Sequence

from edge_agent.errors import Reject
from edge_agent.ports import Measurement
from edge_agent.update.phases import Phase, Step
from edge_agent.update.state import Installed

Detail = dict[str, str | int | float | bool]

MEASURED = "model.measured"
_MAX_MESSAGE_CHARS = 300
_MAX_MEASUREMENTS = 64
_KINDS = {
    Step.PASSED: "update.active",
    Step.SHADOWED: "update.shadowed",
    Step.LOST: "update.lost",
    Step.REJECTED: "update.rejected",
    Step.REVERTED: "update.rolled-back",
    Step.SUPERSEDED: "update.superseded",
    Step.EXHAUSTED: "update.rejected",
}


def kind(step: Step, phase: Phase) -> str:
    """Of the step that led to `phase`: its outcome if it is one, else the phase that begins."""
    return _KINDS.get(step, f"update.{phase}")


def about(subject: Installed | None, step: Step) -> Detail:
    if subject is None:
        return {"sha256": "none"}
    detail: Detail = {"sha256": subject.sha256} | ({"version": subject.version} if subject.version else {})
    if step in (Step.PASSED, Step.SHADOWED):
        detail |= {"variant": subject.variant, "backend": subject.backend, "latency_p50_us": subject.latency_p50_us}
    return detail


def reasons(error: Reject) -> Detail:
    return {"code": error.code, "message": str(error)[:_MAX_MESSAGE_CHARS]}


def text(error: Reject) -> str:
    """One line for the status."""
    return f"{error.code}: {error}"[:_MAX_MESSAGE_CHARS]


def reverted(error: str | None, to: Installed | None) -> Detail:
    """Why a roll-back came about; `error` is the line that `text` made."""
    code, _, message = (error or "unknown").partition(": ")
    return {"to": to.sha256 if to else "none", "code": code, "message": message}


def measured(subject: Installed, measurements: Sequence[Measurement], chosen: Measurement | None) -> tuple[Detail, ...]:
    """What each variant showed on each backend, as details of MEASURED; the first ones where there are very many."""
    return tuple(
        {
            "bundle": subject.sha256,
            "variant": one.variant,
            "backend": one.backend,
            "verdict": one.verdict,
            "message": one.message[:_MAX_MESSAGE_CHARS],
            "p50_us": one.latency_p50_us,
            "p99_us": one.latency_p99_us,
            "memory_bytes": one.memory_bytes,
            "load_ms": one.load_ms,
            "max_difference": one.max_difference,
            "chosen": one is chosen,
        }
        for one in measurements[:_MAX_MEASUREMENTS]
    )
