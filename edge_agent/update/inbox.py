"""Whether an order that came is one to follow. Says so once for each, however often the broker delivers it again."""

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.ports import Store
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.state import State
from fleet_contract import limits
from fleet_contract.errors import ContractError, OrderExpired
from fleet_contract.messages import Event
from fleet_contract.order import Order, check, open_by

log = logging.getLogger(__name__)

_MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True)
class Addressee:
    """Whom an order must name."""

    device_id: str
    profile: str


@dataclass(frozen=True)
class Verified:
    """An order that may be followed, and the id of the `key` that signed it. `anew`: the key of the order before it is trusted no more."""

    order: Order
    key: str
    anew: bool


class Inbox:
    """Holds the newest envelope until it is settled. `put` from any thread; `settle` from the update thread."""

    def __init__(self, addressee: Addressee, trust: Trust, store: Store, time: TrustedTime) -> None:
        self._addressee, self._trust, self._store, self._time = addressee, trust, store, time
        self._lock = threading.Lock()
        self._waiting: bytes | None = None
        self._settled = self._newest = b""
        self._arrivals = 0
        self._untimely: tuple[bytes, float] | None = None

    @property
    def arrivals(self) -> int:
        """How many envelopes came that were not the one before them again."""
        return self._arrivals

    def put(self, envelope: bytes) -> None:
        """The newest replaces one that waits: an order is a wish for a state, not a command to queue."""
        digest = hashlib.sha256(envelope).digest()
        with self._lock:
            self._arrivals += digest != self._newest
            self._newest, self._waiting = digest, envelope

    def settle(self, state: State, keep: Callable[[Verified], None]) -> None:
        """Check the order that waits and hand it to `keep`, which makes it durable. Raises Retry: the order waits on."""
        with self._lock:
            self._ask_again()
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

    def _ask_again(self) -> None:
        """An order that came at the wrong time waits again once somebody has set the clock."""
        if self._untimely is None or abs(self._time.offset_s() - self._untimely[1]) < limits.MAX_CLOCK_SKEW_S:
            return
        self._waiting, self._settled = self._waiting or self._untimely[0], b""
        self._untimely = None

    def _open(self, state: State, envelope: bytes, keep: Callable[[Verified], None]) -> None:
        self._trust.refresh()
        self._untimely = None
        try:
            keys = self._trust.orders_keys()
            key, order = open_by(envelope, keys)
            anew = bool(state.order_key) and state.order_key not in keys
            if self._time.behind():
                self._trust.witness_order(order.issued_at)  # such a clock cannot say that an order comes from the future
            self._check(order, 0 if anew else state.counter)
            self._trust.witness_order(order.issued_at)
            keep(Verified(order, key, anew))
        except ContractError as error:
            if isinstance(error, OrderExpired):
                self._untimely = envelope, self._time.offset_s()
            log.warning("an order was rejected (%s): %s", error.code, error)
            detail = {"code": error.code, "message": str(error)[:_MAX_MESSAGE_CHARS]}
            self._store.append([Event(at=self._time.now(), kind="order.rejected", detail=detail)])

    def _check(self, order: Order, newest_counter: int) -> None:
        me = self._addressee
        check(order, device=me.device_id, profile=me.profile, now=self._time.now(), newest_counter=newest_counter)
