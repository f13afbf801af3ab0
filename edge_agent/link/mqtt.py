"""ports.Link over one MQTT session: what goes up, and who gets what comes down."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from edge_agent.errors import Reject, Retry
from edge_agent.link.settings import UplinkSettings
from fleet_contract import mqtt, topics
from fleet_contract.errors import ContractError, MalformedMessage
from fleet_contract.messages import Ack, Batch, Follow, FromDevice, Packet, Refusal, Status, Url, decode_to_device, encode

log = logging.getLogger(__name__)

_KIND: dict[type, topics.Up] = {Status: topics.Up.STATUS, Batch: topics.Up.RECORDS}
"""The rest is about files."""


@dataclass(frozen=True)
class Handlers:
    """Called in the session's thread; none may block. `order` gets the envelope unverified, `shared` the topic of a shared pass too."""

    order: Callable[[bytes], None]
    ack: Callable[[Ack], None]
    file: Callable[[Packet | Url | Refusal], None]
    shared: Callable[[str, Packet], None]
    connected: Callable[[], None]
    follow: Callable[[Follow], None] = lambda follow: None


class MqttLink:
    """Keeps the connection alive in its own thread, from `start` to `close`. The last will says that the device is offline."""

    def __init__(
        self,
        url: str,
        device_id: str,
        tls: mqtt.Tls,
        *,
        epoch: str,
        at: datetime,
        on_ignored: Callable[[str], None] = lambda _: None,
        settings: UplinkSettings = UplinkSettings(),
    ) -> None:
        """`at` dates the last will; `on_ignored` is given the code of the error when a message cannot be used. Raises BadUrl, BadIdentity."""
        self._device_id, self._on_ignored = device_id, on_ignored
        self._handlers: Handlers | None = None
        self._session = mqtt.Session(
            url,
            device_id,
            tls,
            subscriptions=[topics.all_down(device_id)],
            on_message=self._receive,
            on_connected=self._greet,
            will=mqtt.Will(topics.up(device_id, topics.Up.STATUS), encode(Status(at=at, online=False, epoch=epoch))),
            backoff=settings.backoff(),
            access=mqtt.Access(keepalive_s=settings.keepalive_s),
            start_spread_s=settings.start_spread_s,
        )

    @property
    def connected(self) -> bool:
        return self._session.connected

    @property
    def protocol(self) -> str:
        return self._session.protocol

    def start(self, handlers: Handlers) -> None:
        """Connect, and go on connecting until `close`."""
        self._handlers = handlers
        self._session.start()

    def send(self, message: FromDevice) -> mqtt.Handover:
        """Raises Retry when offline, Reject when the message is too large for the wire."""
        kind = _KIND.get(type(message), topics.Up.WANT)
        try:
            return self._session.publish(topics.up(self._device_id, kind), encode(message), retain=kind is topics.Up.STATUS)
        except mqtt.Offline as error:
            raise Retry(str(error), code="offline") from error
        except ContractError as error:
            raise Reject(str(error), code=error.code) from error

    def subscribe(self, topic: str) -> None:
        self._session.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        self._session.unsubscribe(topic)

    def close(self) -> None:
        """No last will is sent: say goodbye with a Status first."""
        self._session.close()

    def _greet(self) -> None:
        if self._handlers:
            self._handlers.connected()

    def _receive(self, topic: str, payload: bytes, acknowledge: mqtt.Acknowledge) -> None:
        try:
            if self._handlers:
                self._dispatch(self._handlers, topic, payload)
        except ContractError as error:
            log.warning("a message on %s was ignored: %s", topic, error)
            self._on_ignored(error.code)
        acknowledge()

    def _dispatch(self, handlers: Handlers, topic: str, payload: bytes) -> None:
        if topics.is_shared(topic):
            message = decode_to_device(payload)
            if not isinstance(message, Packet):
                raise MalformedMessage(f"{topic!r} carries a {type(message).__name__}", field="message")
            handlers.shared(topic, message)
            return
        device, kind = topics.parse_down(topic)
        if device != self._device_id:
            raise topics.BadTopic(f"{topic!r} is another device's", field="topic")
        if kind is topics.Down.ORDER:
            handlers.order(payload)
            return
        message = decode_to_device(payload)
        if isinstance(message, Ack):
            handlers.ack(message)
        elif isinstance(message, Follow):
            handlers.follow(message)
        elif isinstance(message, Packet | Url | Refusal):
            handlers.file(message)
