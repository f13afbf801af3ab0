"""What a virtual device is ordered to run: orders verified as a real agent verifies them, and the bundle fetched and checked, or taken as read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fleet_contract.instants import moment
from fleet_contract.messages import Packet, Refusal, Want
from fleet_contract.order import Order, check, open_by
from hil.virtual_fleet.fetching import Fetch, WrongBundle
from hil.virtual_fleet.library import Library

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Note = tuple[str, dict[str, str | int | float | bool]]
"""Kind and detail of an event."""
_MAX_MESSAGE_CHARS = 300
_NEVER_S = float("inf")


class Duty:
    """`bundle` is what it runs, `counter` that of the last order that it has accepted. Nothing is ever executed: it is installed at once."""

    def __init__(
        self, device_id: str, profile: str, keys: "Mapping[str, Ed25519PublicKey]", library: Library, *, fetches: bool, patience_s: float
    ) -> None:
        """Without `fetches` no bundle is asked for."""
        self._device_id, self._keys, self._library, self._fetches = device_id, keys, library, fetches
        self.profile = profile
        self._patience_s = patience_s
        self.bundle: str | None = None
        self.counter = 0
        self._fetch: Fetch | None = None
        self._asked_s = _NEVER_S
        self._want: Want | None = None

    @property
    def fetching(self) -> bool:
        return self._fetch is not None

    @property
    def due_s(self) -> float:
        """When it asks again for what did not come."""
        return self._asked_s + self._patience_s

    def take_order(self, envelope: bytes, wall_us: int, now_s: float) -> list[Note]:
        """Raises OrderForgery and its kin. An empty envelope is an order taken back, and changes nothing."""
        if not envelope:
            return []
        order = open_by(envelope, self._keys)[1]
        check(order, device=self._device_id, profile=self.profile, now=moment(wall_us), newest_counter=self.counter)
        if order.counter == self.counter:
            return []
        self.counter = order.counter
        if order.sha256 == self.bundle:
            return []
        if not self._fetches:
            return self._install(order)
        self._fetch = Fetch(order, keep=self._library.lacks(order.sha256))
        self.ask(now_s)
        return []

    def take_answer(self, answer: Packet | Refusal, now_s: float) -> list[Note]:
        """Blocks, or a word instead of them."""
        fetch = self._fetch
        if fetch is None:
            return []
        try:
            more = fetch.take(answer)
        except (WrongBundle, ConnectionRefusedError) as error:
            self._fetch, self._asked_s = None, _NEVER_S
            told = {"sha256": fetch.order.sha256, "code": type(error).__name__, "message": str(error)[:_MAX_MESSAGE_CHARS]}
            return [("update.rejected", told)]
        if fetch.done:
            self._library.keep(fetch)
            self._fetch, self._asked_s = None, _NEVER_S
            return self._install(fetch.order)
        if more:
            self.ask(now_s)
        return []

    def ask(self, now_s: float) -> None:
        """For what is missing, if anything is."""
        if self._fetch is not None:
            self._want, self._asked_s = self._fetch.want(), now_s

    @property
    def asks(self) -> bool:
        """Whether `wants` has something."""
        return self._want is not None

    def wants(self) -> Want | None:
        """What is to be sent now; once."""
        want, self._want = self._want, None
        return want

    def _install(self, order: Order) -> list[Note]:
        self.bundle = order.sha256
        return [("update.active", {"sha256": order.sha256, "fetched": self._fetches})]
