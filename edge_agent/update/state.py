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


class Reliability(msgspec.Struct, frozen=True):
    """Of the requests to one bundle: how many there were, and how many got no usable answer."""

    requests: int = 0
    errors: int = 0


class State(msgspec.Struct, frozen=True):
    """`active` is what runs and is what a start brings up; `previous` what a rollback goes to, in the other slot;
    or there lies `shadow`, which an order wants to run beside the active one.
    `candidate` is what an update is about (during its probation also `active`); `lost` counts its workers that were killed, and `rival` is how the
    bundle before it did. `spent` is what the order has cost (see phases.TABLE), `order_key` the id of the key that signed it,
    `given_up` the counter of one that cannot be followed;
    `quarantined` are digests of bundles that have shown themselves bad here."""

    phase: Phase = Phase.IDLE
    order: Order | None = None
    order_key: str = ""
    active: Installed | None = None
    previous: Installed | None = None
    shadow: Installed | None = None
    candidate: Installed | None = None
    lost: int = 0
    rival: Reliability = Reliability()
    spent: int = 0
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
