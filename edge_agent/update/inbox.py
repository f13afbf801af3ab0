"""Whether an order that came is one to follow. Says so once for each, however often the broker delivers it again."""

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.ports import Clock, Store
from edge_agent.update.state import State
from edge_agent.update.trust import Trust
from fleet_contract.errors import ContractError
from fleet_contract.messages import Event
from fleet_contract.order import Order, check, open_signed

log = logging.getLogger(__name__)

_MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True)
class Addressee:
    """Whom an order must name."""

    device_id: str
    profile: str


class Inbox:
    """Holds the newest envelope until it is settled. `put` from any thread; `settle` from the update thread."""

    def __init__(self, addressee: Addressee, trust: Trust, store: Store, clock: Clock) -> None:
        self._addressee, self._trust, self._store, self._clock = addressee, trust, store, clock
        self._lock = threading.Lock()
        self._waiting: bytes | None = None
        self._settled = b""

    def put(self, envelope: bytes) -> None:
        """The newest replaces one that waits: an order is a wish for a state, not a command to queue."""
        with self._lock:
            self._waiting = envelope

    def settle(self, state: State, keep: Callable[[Order], None]) -> None:
        """Check the order that waits and hand it to `keep`, which makes it durable. Raises Retry: the order waits on."""
        with self._lock:
            envelope = self._waiting
        if envelope is None:
            return
        digest = hashlib.sha256(envelope).digest()
        if digest != self._settled:
            self._open(state, envelope, keep)
        with self._lock:
            self._settled = digest
            if self._waiting is envelope:
                self._waiting = None

    def _open(self, state: State, envelope: bytes, keep: Callable[[Order], None]) -> None:
        self._trust.refresh()
        keys = self._trust.orders_keys()
        try:
            order = open_signed(envelope, keys)
            check(
                order,
                device=self._addressee.device_id,
                profile=self._addressee.profile,
                now=self._clock.now(),
                newest_counter=state.counter,
            )
            keep(order)
        except ContractError as error:
            log.warning("an order was rejected (%s): %s", error.code, error)
            detail = {"code": error.code, "message": str(error)[:_MAX_MESSAGE_CHARS]}
            self._store.append([Event(at=self._clock.now(), kind="order.rejected", detail=detail)])
