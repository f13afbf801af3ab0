"""What follows from the journal: pure, and asked again after every step, so a lost or repeated message changes nothing."""

from enum import StrEnum

import msgspec

from edge_agent.update import phases
from edge_agent.update.phases import Phase, Step
from edge_agent.update.state import Installed, State
from fleet_contract.errors import OrderReplayed
from fleet_contract.order import Order


class Decision(StrEnum):
    NOTHING = "nothing"
    """Go on with the phase at hand."""
    START = "start"
    SUPERSEDE = "supersede"
    REVERT = "revert"


def decide(state: State, *, recall: bool = False) -> Decision:
    """`recall` is a person's wish to go back to the previous bundle."""
    idle, replaceable = state.phase is Phase.IDLE, phases.knows(state.phase, Step.SUPERSEDED)
    if recall and (idle or replaceable):
        return Decision.REVERT
    if idle:
        return Decision.START if _wants_install(state) else Decision.NOTHING
    stale = state.order is None or state.candidate is None or state.candidate.sha256 != state.order.sha256
    stale |= state.phase is Phase.PROBATION and asks_shadow(state)  # the order came while it was switched to
    return Decision.SUPERSEDE if stale and replaceable else Decision.NOTHING


def asks_shadow(state: State) -> bool:
    """Whether the newest order's bundle must not answer."""
    return state.order is not None and state.order.shadow is True


def beside(state: State) -> Installed | None:
    """What shall run beside the active bundle now. Nothing while an update may write to its slot, or needs its memory."""
    order, shadow = state.order, state.shadow
    wanted = state.phase is Phase.IDLE and order is not None and order.shadow is True
    return shadow if wanted and shadow is not None and shadow.sha256 == order.sha256 else None


def accept(state: State, order: Order) -> State:
    """The state once a checked order is the newest. Raises OrderReplayed when it says something else under a counter that was used already."""
    if state.order and order.counter == state.order.counter and (order.sha256, order.shadow) != (state.order.sha256, state.order.shadow):
        raise OrderReplayed(f"order counter {order.counter} was already used for another bundle", field="counter", limit=order.counter)
    if order.counter == state.counter:
        return msgspec.structs.replace(state, order=order)
    return msgspec.structs.replace(state, order=order, error=None, spent=0)


def disown(state: State) -> State:
    """The state once the key that signed its order is trusted no more: a thief's counter binds nobody, and his old orders open for nobody."""
    return msgspec.structs.replace(state, order=None, order_key="", given_up=-1)


def pardon(state: State) -> State:
    """The state once a person has lifted every quarantine: the order is tried again."""
    return msgspec.structs.replace(state, quarantined=(), given_up=-1, spent=0)


def _wants_install(state: State) -> bool:
    order = state.order
    return (
        order is not None
        and (state.active is None or state.active.sha256 != order.sha256)
        and beside(state) is None
        and order.sha256 not in state.quarantined
        and order.counter > state.given_up
        and phases.affordable(Phase.IDLE, Step.ORDERED, state.spent)
    )
