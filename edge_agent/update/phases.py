"""The update as one transition table, recovery included. What is not in it cannot happen.

Every move costs a part of what an order may cost, so that every loop ends: the sum stands in the journal, grows with each move, and begins anew with a new
order alone. When it is used up the update is EXHAUSTED, which leads to a model that is known to be good. `after` is where a start finds itself, too: the row
of RESTARTED is all that recovery is.
"""

from dataclasses import dataclass
from enum import StrEnum

BUDGET = 300
"""Of one order: five mishaps beside the way through, or about 290 starts while a slow download lasts."""
_STEP = 1
_MISHAP = 50
"""What should not happen, and takes the device down when it happens again and again."""


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
    SHADOWED = "shadowed"
    """Proven, and to run beside the active bundle: nothing is switched."""
    LOST = "lost"
    """Its worker was killed, by itself or by somebody else: it gets one more chance."""
    SWITCHED = "switched"
    PASSED = "passed"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    """Another order came."""
    RECALLED = "recalled"
    """A person, or an active bundle that is not what it was, sends the device back."""
    REVERTED = "reverted"
    RESTARTED = "restarted"
    """The process began anew, whatever ended the one before."""
    EXHAUSTED = "exhausted"
    """The order has cost all that an order may cost."""


@dataclass(frozen=True)
class Move:
    after: Phase
    cost: int = _STEP


TABLE: dict[tuple[Phase, Step], Move] = {
    (Phase.IDLE, Step.ORDERED): Move(Phase.FETCHING),
    (Phase.IDLE, Step.RECALLED): Move(Phase.REVERTING, _MISHAP),
    (Phase.FETCHING, Step.FETCHED): Move(Phase.VERIFYING),
    (Phase.FETCHING, Step.REJECTED): Move(Phase.IDLE),
    (Phase.FETCHING, Step.SUPERSEDED): Move(Phase.IDLE),
    (Phase.FETCHING, Step.RECALLED): Move(Phase.REVERTING, _MISHAP),
    (Phase.FETCHING, Step.RESTARTED): Move(Phase.FETCHING),
    (Phase.FETCHING, Step.EXHAUSTED): Move(Phase.IDLE),
    (Phase.VERIFYING, Step.VERIFIED): Move(Phase.PROVING),
    (Phase.VERIFYING, Step.DAMAGED): Move(Phase.FETCHING, _MISHAP),
    (Phase.VERIFYING, Step.REJECTED): Move(Phase.IDLE),
    (Phase.VERIFYING, Step.SUPERSEDED): Move(Phase.IDLE),
    (Phase.VERIFYING, Step.RESTARTED): Move(Phase.VERIFYING, _MISHAP),
    (Phase.VERIFYING, Step.EXHAUSTED): Move(Phase.IDLE),
    (Phase.PROVING, Step.PROVEN): Move(Phase.SWITCHING),
    (Phase.PROVING, Step.SHADOWED): Move(Phase.IDLE),
    (Phase.PROVING, Step.LOST): Move(Phase.PROVING, _MISHAP),
    (Phase.PROVING, Step.DAMAGED): Move(Phase.FETCHING, _MISHAP),
    (Phase.PROVING, Step.REJECTED): Move(Phase.IDLE),
    (Phase.PROVING, Step.SUPERSEDED): Move(Phase.IDLE),
    (Phase.PROVING, Step.RESTARTED): Move(Phase.PROVING, _MISHAP),
    (Phase.PROVING, Step.EXHAUSTED): Move(Phase.IDLE),
    (Phase.SWITCHING, Step.SWITCHED): Move(Phase.PROBATION),
    (Phase.SWITCHING, Step.LOST): Move(Phase.SWITCHING, _MISHAP),
    (Phase.SWITCHING, Step.DAMAGED): Move(Phase.FETCHING, _MISHAP),
    (Phase.SWITCHING, Step.REJECTED): Move(Phase.IDLE),
    (Phase.SWITCHING, Step.RESTARTED): Move(Phase.SWITCHING, _MISHAP),
    (Phase.SWITCHING, Step.EXHAUSTED): Move(Phase.IDLE),
    (Phase.PROBATION, Step.PASSED): Move(Phase.IDLE),
    (Phase.PROBATION, Step.REJECTED): Move(Phase.REVERTING),
    (Phase.PROBATION, Step.SUPERSEDED): Move(Phase.REVERTING),
    (Phase.PROBATION, Step.RESTARTED): Move(Phase.PROBATION, _MISHAP),
    (Phase.PROBATION, Step.EXHAUSTED): Move(Phase.REVERTING),
    (Phase.REVERTING, Step.REVERTED): Move(Phase.IDLE),
    (Phase.REVERTING, Step.RESTARTED): Move(Phase.REVERTING, _MISHAP),
    (Phase.REVERTING, Step.EXHAUSTED): Move(Phase.IDLE),
}

RUNS_CANDIDATE = frozenset({Phase.PROVING, Phase.SWITCHING, Phase.PROBATION})
"""Who takes the device down in one of these is the bundle itself."""


def move(phase: Phase, step: Step) -> Move:
    """Raises ValueError for a step that this phase does not know."""
    if (phase, step) not in TABLE:
        raise ValueError(f"an update that is {phase} cannot be {step}")
    return TABLE[phase, step]


def knows(phase: Phase, step: Step) -> bool:
    return (phase, step) in TABLE


def affordable(phase: Phase, step: Step, spent: int) -> bool:
    """Whether an order that has cost `spent` can pay for this. What ends an update is always to be had."""
    there = move(phase, step)
    ends = there.after is Phase.IDLE or (there.after is Phase.REVERTING and phase is not Phase.REVERTING)
    return ends or spent + there.cost <= BUDGET
