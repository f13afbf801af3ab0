"""The server's one MQTT session: routes what devices send, and sends what is for them."""

import logging
import threading
from collections.abc import Callable, Mapping

from fleet_contract import messages, topics
from fleet_contract.broker import Access
from fleet_contract.errors import BadTopic, ContractError, UnknownVersion
from fleet_contract.messages import Batch, Follow, Packet, Progress, Refusal, Status, Url, Want, WantUrl
from fleet_contract.mqtt import Acknowledge, Handover, Offline, Session, Tls
from fleet_contract.topics import Down, Up
from fleet_server.errors import Unavailable
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.orders import OrderPublisher
from fleet_server.trust.device_ca import SERVER_IDENTITY

log = logging.getLogger(__name__)

_IN_FLIGHT = 400
"""Orders, answers and packets for a whole fleet go through this one connection."""

_KIND_OF: dict[type, Up] = {Status: Up.STATUS, Want: Up.WANT, WantUrl: Up.WANT, Progress: Up.WANT}
_LISTENS = (Up.STATUS, Up.WANT)
"""Records go to the ingest workers (fleet_server.ingest)."""

OnStatus = Callable[[str, Status], None]
OnRequest = Callable[[str, Want | WantUrl | Progress], None]


class FleetLink:
    """Implements ports.OrderLink. Until `start`, and while the broker is away, sending raises Offline or does nothing, as each method says."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.stale = threading.Event()
        """Set when the broker may lack orders: call `publish_all`."""
        self._session: Session | None = None
        self._orders = OrderPublisher(self._publish_order, lambda: self.connected, self.stale.set)
        self._on_status: OnStatus = lambda *_: None
        self._on_request: OnRequest = lambda *_: None
        self._wake: Callable[[], None] = lambda: None

    def hand_to(self, on_status: OnStatus, on_request: OnRequest) -> None:
        """Who gets what devices send. The callbacks run in the MQTT thread and must not block."""
        self._on_status, self._on_request = on_status, on_request

    def start(self, url: str, tls: Tls, wake: Callable[[], None]) -> None:
        """Connect, and stay connected. `wake` is called when there are orders to publish again."""
        self._wake = wake
        wanted = [topics.all_up(kind) for kind in _LISTENS]
        self._session = Session(
            url,
            SERVER_IDENTITY,
            tls,
            subscriptions=wanted,
            on_message=self.route,
            on_connected=self._connected,
            access=Access(in_flight=_IN_FLIGHT),
        )
        self._session.start()
        self._orders.start()

    def wait_connected(self, timeout_s: float) -> bool:
        return self._session is not None and self._session.wait_connected(timeout_s)

    def close(self) -> None:
        if self._session:
            self._orders.close()
            self._session.close()

    @property
    def connected(self) -> bool:
        return self._session is not None and self._session.connected

    @property
    def protocol(self) -> str:
        return self._session.protocol if self._session else ""

    @property
    def bytes_in_out(self) -> tuple[int, int]:
        return (self._session.bytes_in, self._session.bytes_out) if self._session else (0, 0)

    def publish_orders(self, envelopes: Mapping[str, bytes]) -> None:
        if self.connected:
            self._orders.put(envelopes)
        else:
            self.stale.set()

    def publish_all(self, envelopes: Mapping[str, bytes]) -> None:
        """Retain every device's order that was not yet sent on this connection."""
        self.stale.clear()
        self._orders.put_missing(envelopes)

    def send_follow(self, device_id: str, follow: Follow) -> None:
        """Raises Unavailable while offline."""
        try:
            self._publish(topics.down(device_id, Down.TRACE), messages.encode(follow))
        except Offline as error:
            raise Unavailable(str(error), field="broker") from error

    def forget(self, device_id: str) -> None:
        """An empty retained message takes the one before it away (MQTT 5, 3.3.1.3). Raises Unavailable while offline."""
        try:
            for topic in (topics.down(device_id, Down.ORDER), topics.up(device_id, Up.STATUS)):
                self._publish(topic, b"", retain=True)
        except Offline as error:
            raise Unavailable(str(error), field="broker") from error
        self._orders.forget(device_id)

    def send_answer(self, device: str, answer: Packet | Url | Refusal) -> Handover:
        """Raises Offline."""
        return self._publish(topics.down(device, Down.BLOCKS), messages.encode(answer))

    def send_shared(self, topic: str, packet: Packet) -> tuple[Handover, int]:
        """To every device that listens to one of topics.shared; also the message's length in bytes. Raises Offline."""
        wire = messages.encode(packet)
        return self._publish(topic, wire), len(wire)

    def route(self, topic: str, payload: bytes, puback: Acknowledge) -> None:
        """Runs in the MQTT thread. What cannot be used is counted and let go, without an Ack."""
        if not payload:
            puback()  # of our own: see `forget`
            return
        self.counts.add(Count.MESSAGES)
        try:
            device, kind = topics.parse_up(topic)
            message = messages.decode_from_device(payload)
        except BadTopic as error:
            self.counts.trouble(Count.FOREIGN_TOPIC, error)
        except UnknownVersion as error:
            self.counts.trouble(Count.UNKNOWN_VERSION, f"{error} (on {topic})")
        except ContractError as error:
            self.counts.trouble(Count.MALFORMED, f"{error} (on {topic})")
        else:
            self._hand_over(device, kind, message)
        puback()

    def _hand_over(self, device: str, kind: Up, message: messages.FromDevice) -> None:
        if isinstance(message, Batch) or _KIND_OF[type(message)] != kind:
            self.counts.trouble(Count.WRONG_KIND, f"{device} sent a {type(message).__name__} as {kind.value}")
        elif isinstance(message, Status):
            self.counts.add(Count.STATUSES)
            self._on_status(device, message)
        else:
            self.counts.add(Count.PROGRESS if isinstance(message, Progress) else Count.WANTS)
            self._on_request(device, message)

    def _publish_order(self, device: str, envelope: bytes) -> Handover:
        return self._publish(topics.down(device, Down.ORDER), envelope, retain=True)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> Handover:
        if self._session is None:
            raise Offline("the session has not been started")
        return self._session.publish(topic, payload, retain=retain)

    def _connected(self) -> None:
        """The broker may be a new one, or have lost what it held."""
        self._orders.begin_anew()
        self.stale.set()
        self._wake()
