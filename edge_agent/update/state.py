"""What the journal holds: the newest order, what is installed where, and how far an update is."""

from typing import Literal

import msgspec

from edge_agent.update.phases import Phase
from fleet_contract.order import Order

Slot = Literal["a", "b"]
MAX_QUARANTINED = 32


class Installed(msgspec.Struct, frozen=True):
    """A bundle in a slot. The fields with defaults are known once it is verified and proven."""

    slot: Slot
    sha256: str
    length: int
    version: str = ""
    variant: str = ""
    backend: str = ""
    latency_p50_us: float = 0.0


class State(msgspec.Struct, frozen=True):
    """`active` is what runs and is what a start brings up; `previous` what a rollback goes to, in the other slot.
    `candidate` is what an update is about (during its probation also `active`). `starts` counts the process starts within this phase.
    `given_up` is the counter of an order that cannot be followed; `quarantined` are digests of bundles that have shown themselves bad here."""

    phase: Phase = Phase.IDLE
    order: Order | None = None
    active: Installed | None = None
    previous: Installed | None = None
    candidate: Installed | None = None
    starts: int = 0
    given_up: int = -1
    quarantined: tuple[str, ...] = ()
    error: str | None = None

    @property
    def counter(self) -> int:
        """The order counter's floor; 0 before any order."""
        return self.order.counter if self.order else 0

    @property
    def idle_slot(self) -> Slot:
        """The one that may be written."""
        return "b" if self.active and self.active.slot == "a" else "a"


def quarantine(state: State, sha256: str) -> tuple[str, ...]:
    """The list with this digest on it; the oldest give way."""
    return (*(one for one in state.quarantined if one != sha256), sha256)[-MAX_QUARANTINED:]
