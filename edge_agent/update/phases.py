"""The update as one transition table. What is not in it cannot happen."""

from enum import StrEnum


class Phase(StrEnum):
    IDLE = "idle"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    PROVING = "proving"
    SWITCHING = "switching"
    PROBATION = "probation"
    REVERTING = "reverting"


class Step(StrEnum):
    ORDERED = "ordered"
    FETCHED = "fetched"
    DAMAGED = "damaged"
    """The disk did not keep what was fetched."""
    VERIFIED = "verified"
    PROVEN = "proven"
    SWITCHED = "switched"
    PASSED = "passed"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    """Another order came."""
    RECALLED = "recalled"
    """A person, or a bundle that does not start any more, sends the device back."""
    REVERTED = "reverted"


TABLE: dict[tuple[Phase, Step], Phase] = {
    (Phase.IDLE, Step.ORDERED): Phase.FETCHING,
    (Phase.IDLE, Step.RECALLED): Phase.REVERTING,
    (Phase.FETCHING, Step.FETCHED): Phase.VERIFYING,
    (Phase.FETCHING, Step.REJECTED): Phase.IDLE,
    (Phase.FETCHING, Step.SUPERSEDED): Phase.IDLE,
    (Phase.VERIFYING, Step.DAMAGED): Phase.FETCHING,
    (Phase.VERIFYING, Step.VERIFIED): Phase.PROVING,
    (Phase.VERIFYING, Step.REJECTED): Phase.IDLE,
    (Phase.VERIFYING, Step.SUPERSEDED): Phase.IDLE,
    (Phase.PROVING, Step.PROVEN): Phase.SWITCHING,
    (Phase.PROVING, Step.REJECTED): Phase.IDLE,
    (Phase.PROVING, Step.SUPERSEDED): Phase.IDLE,
    (Phase.SWITCHING, Step.SWITCHED): Phase.PROBATION,
    (Phase.SWITCHING, Step.REJECTED): Phase.IDLE,
    (Phase.PROBATION, Step.PASSED): Phase.IDLE,
    (Phase.PROBATION, Step.REJECTED): Phase.REVERTING,
    (Phase.PROBATION, Step.SUPERSEDED): Phase.REVERTING,
    (Phase.REVERTING, Step.REVERTED): Phase.IDLE,
}


def after(phase: Phase, step: Step) -> Phase:
    """Raises ValueError for a step that this phase does not know."""
    if (phase, step) not in TABLE:
        raise ValueError(f"an update that is {phase} cannot be {step}")
    return TABLE[phase, step]
