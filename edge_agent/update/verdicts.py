"""What a failure means for an update: whose fault it was, and which step of the table it is. Pure."""

from typing import Any

from edge_agent.errors import Reject
from edge_agent.update import phases, reports
from edge_agent.update.phases import RUNS_CANDIDATE, Phase, Step
from edge_agent.update.slots import DAMAGED
from edge_agent.update.state import Installed, State, quarantine

MAX_LOST = 1
"""Workers that an update may lose to whatever kills processes on this machine, before it is the bundle's own doing."""
NO_ROOM = "no-room"
"""Code of a Reject: memory does not suffice for it and for what serves."""
_NOT_THE_BUNDLES_FAULT = DAMAGED | {"bad-target", "not-found", "bad-blocks", "bad-request", "exhausted-before", NO_ROOM}
_LOST = "child-crash"


def step_for(state: State, error: Reject) -> Step | None:
    """The step that `error` makes of the phase at hand; None when this phase knows none for it."""
    if error.code in DAMAGED and phases.knows(state.phase, Step.DAMAGED):
        return Step.DAMAGED
    if error.code == _LOST and state.lost < MAX_LOST and phases.knows(state.phase, Step.LOST):
        return Step.LOST
    return Step.REJECTED if phases.knows(state.phase, Step.REJECTED) else None


def changes_for(state: State, step: Step, error: Reject) -> dict[str, Any]:
    """What that step changes in the journal."""
    if step is Step.LOST:
        return {"lost": state.lost + 1}
    if step is Step.DAMAGED:
        return {"error": reports.text(error)}
    changes: dict[str, Any] = {"error": reports.text(error), "quarantined": quarantined(state, error, state.candidate)}
    if state.phase is Phase.REVERTING:
        return changes | {"active": state.previous, "previous": None, "candidate": None, "quarantined": state.quarantined}
    if state.phase is not Phase.PROBATION:
        changes |= {"given_up": state.counter, "candidate": None}
    return changes


def exhausted(state: State) -> Reject:
    """Whoever used an order up while its bundle ran is the bundle."""
    code = "exhausted" if state.phase in RUNS_CANDIDATE else "exhausted-before"
    return Reject(f"the update came to no end; it was given up while {state.phase}", code=code)


def quarantined(state: State, error: Reject, installed: Installed | None) -> tuple[str, ...]:
    """The list, with this bundle on it if it is to blame."""
    if installed is None or error.code in _NOT_THE_BUNDLES_FAULT:
        return state.quarantined
    return quarantine(state, installed.sha256)
