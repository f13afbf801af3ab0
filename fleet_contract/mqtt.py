"""One MQTT session for every program: mTLS, MQTT 5 where the broker has it and 3.1.1 where not, manual acknowledgement, jittered reconnects.

Nothing is queued while offline: callers hold their own state and repeat it from `on_connected` (every loop is level-triggered).
"""

import logging
import random
import threading
from collections.abc import Callable, Collection

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet_contract.backoff import Backoff
from fleet_contract.broker import Access, BadIdentity, Tls, parse_url
from fleet_contract.mqtt_packets import Will

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 10.0
_MAX_QUEUED_MESSAGES = 1_000
_LOOK_S = 4.0  # the network thread is woken by what comes and goes; between, it only has its keepalive to look at
_NO_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1
_STEADY_S = 30.0  # what ends sooner is a failed attempt: else two holders of one key take over from each other for ever

Acknowledge = Callable[[], None]
OnMessage = Callable[[str, bytes, Acknowledge], None]


class Offline(ConnectionError):
    """There is no connection just now, or its queue is full: keep the message and try again."""


class Handover:
    """A message that was handed to one connection; a later connection knows nothing of it."""

    def __init__(self, info: paho.MQTTMessageInfo, alive: Callable[[], bool], unheard: Collection[int]) -> None:
        self._info, self._alive, self._unheard = info, alive, unheard

    def unheard(self) -> bool:
        """Whether the broker has said that nobody listened. A broker need not say so, and none does before MQTT 5."""
        return self._info.is_published() and self._info.mid in self._unheard

    def taken(self, timeout_s: float = 0.0) -> bool:
        """Wait until the broker has acknowledged it, at most `timeout_s`. Raises Offline when its connection is gone without that."""
        if not self._info.is_published():
            if not self._alive():
                raise Offline("the connection was lost before the broker took the message")
            if timeout_s > 0:
                self._info.wait_for_publish(timeout_s)
        return self._info.is_published()


class _Client(paho.Client):
    """Says when its network thread ends, and to which of its messages nobody listened (the newest of each id). The thread must be paho's own: only
    then do publish and ack from other threads leave the socket to it; without one they write themselves, and two threads in one TLS connection break
    its records."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.ended = threading.Event()
        self.unheard: set[int] = set()

    def loop_forever(self, timeout: float = _LOOK_S, retry_first_connection: bool = False) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        finally:
            self.ended.set()


class Session:
    """A connection that is kept alive by its own thread until `close`.

    `on_message(topic, payload, acknowledge)` and `on_connected()` run in the connection's network thread and must not block;
    the PUBACK is sent when `acknowledge` is called, from any thread.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        tls: Tls | None,
        *,
        subscriptions: list[str],
        on_message: OnMessage,
        on_connected: Callable[[], None] = lambda: None,
        on_disconnected: Callable[[], None] = lambda: None,
        will: Will | None = None,
        backoff: Backoff = Backoff(),
        uniform: Callable[[], float] = random.random,
        access: Access = Access(),
        start_spread_s: float = 0.0,
    ) -> None:
        """`tls` None: plain, for a broker on this board. The first attempt comes within `start_spread_s`. Raises BadUrl, and BadIdentity for files
        that cannot be used now."""
        self._host, self._port = parse_url(url, "mqtts" if tls else "mqtt")
        if tls:
            tls.context()
        self._access = access
        self._client_id, self._tls, self._will = client_id, tls, will
        self._subscriptions = list(subscriptions)
        self._subscribing = threading.Lock()
        self._on_message, self._on_connected, self._on_disconnected = on_message, on_connected, on_disconnected
        self._backoff, self._uniform, self._start_spread_s = backoff, uniform, start_spread_s
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._client: _Client | None = None
        self._connected = threading.Event()
        self._closing = threading.Event()
        self._attempt = 0
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True)
        self.bytes_out = 0
        self.bytes_in = 0

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def protocol(self) -> str:
        """ "5" or "3.1.1": what the last attempt spoke."""
        return "5" if self._protocol == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    def start(self) -> None:
        self._thread.start()

    def wait_connected(self, timeout_s: float) -> bool:
        return self._connected.wait(timeout_s)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> Handover:
        """Hand a QoS 1 message to the connection. Raises Offline; what was handed over may still be lost with the connection."""
        client = self._online()
        if client is None:
            raise Offline("not connected to the broker")
        info = client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Offline(f"the broker connection did not take the message: {paho.error_string(info.rc)}")
        self.bytes_out += len(payload) + len(topic)
        return Handover(info, lambda: self._client is client and self._connected.is_set(), client.unheard)

    def subscribe(self, topic: str) -> None:
        """Listen to one more topic, on this connection and those that follow; the broker knows before it gets what is published afterwards.
        From any thread: paho only queues, its own thread writes."""
        with self._subscribing:
            if topic not in self._subscriptions:
                self._subscriptions.append(topic)
                if client := self._online():
                    client.subscribe(topic, 1)

    def unsubscribe(self, topic: str) -> None:
        """Nothing happens when nobody listens to it."""
        with self._subscribing:
            if topic in self._subscriptions:
                self._subscriptions.remove(topic)
                if client := self._online():
                    client.unsubscribe(topic)

    def close(self, timeout_s: float = 5.0) -> None:
        """Disconnect in good order (no last will is sent) and end the thread."""
        self._closing.set()
        client = self._client
        if client is not None:
            client.disconnect()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _online(self) -> _Client | None:
        return self._client if self._connected.is_set() else None

    def _run(self) -> None:
        self._closing.wait(self._start_spread_s * self._uniform())
        while not self._closing.is_set():
            try:
                self._connect_once()
            except Exception:  # whatever one attempt met, a program must not stay offline for it
                log.exception("%s: an attempt to connect failed", self._client_id)
            self._attempt += 1
            self._closing.wait(self._backoff.wait_s(self._attempt, self._uniform))

    def _connect_once(self) -> None:
        answered = threading.Event()
        try:
            client = self._client = self._make_client(answered)
            client.connect(self._host, self._port, self._access.keepalive_s, **self._connect_options())
        except OSError as error:
            log.info("broker %s:%d: %s", self._host, self._port, error)
            return
        except BadIdentity as error:
            log.error("%s stays offline: %s", self._client_id, error)
            return
        client.loop_start()
        if not client.ended.wait(_STEADY_S):
            self._attempt = 0
            client.ended.wait()
        client.loop_stop()
        self._lost()  # a callback that raised has ended the network thread without a disconnect
        if not answered.is_set() and not self._closing.is_set():
            self._fall_back("the broker closed the connection without an answer")

    def _connect_options(self) -> dict:
        if self._protocol != MQTTProtocolVersion.MQTTv5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = self._access.receive_maximum
        properties.MaximumPacketSize = self._access.max_packet_bytes
        return {"clean_start": True, "properties": properties}

    def _make_client(self, answered: threading.Event) -> "_Client":
        clean = {} if self._protocol == MQTTProtocolVersion.MQTTv5 else {"clean_session": True}
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=self._protocol,
            reconnect_on_failure=False,
            manual_ack=True,
            **clean,
        )
        if self._tls:
            client.tls_set_context(self._tls.context())  # read anew each time: certificates are renewed
        if self._access.user is not None:
            client.username_pw_set(self._access.user, self._access.password)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.max_queued_messages_set(_MAX_QUEUED_MESSAGES)
        client.max_inflight_messages_set(self._access.in_flight)
        if self._will:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_connect = lambda c, _u, _f, reason, _p: (answered.set(), self._connected_as(c, reason))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._lost(reason)
        client.on_message = self._received
        client.on_publish = _note_heard
        return client

    def _connected_as(self, client: paho.Client, reason: object) -> None:
        if reason.is_failure:  # type: ignore[attr-defined]
            if "protocol version" in str(reason).lower():
                self._fall_back(str(reason))
            else:
                log.warning("the broker refused %s: %s", self._client_id, reason)
            return
        with self._subscribing:
            if self._subscriptions:
                client.subscribe([(topic, 1) for topic in self._subscriptions])
            self._connected.set()
        log.info("%s connected, MQTT %s", self._client_id, self.protocol)
        self._on_connected()

    def _fall_back(self, why: str) -> None:
        """The next attempt speaks the other version: a broker without MQTT 5 may refuse it, or only hang up."""
        five = self._protocol == MQTTProtocolVersion.MQTTv5
        self._protocol = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5
        log.info("%s: trying MQTT %s next (%s)", self._client_id, self.protocol, why)

    def _lost(self, reason: object = "it broke off") -> None:
        if self._connected.is_set():
            self._connected.clear()
            log.info("%s disconnected: %s", self._client_id, reason)
            self._on_disconnected()

    def _received(self, client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self.bytes_in += len(message.payload) + len(message.topic)
        self._on_message(message.topic, message.payload, lambda: client.ack(message.mid, message.qos))


def _note_heard(client: _Client, _userdata: object, message_id: int, reason: ReasonCode, _properties: object) -> None:
    """paho calls this before it says that the message is published."""
    (client.unheard.add if reason.value == _NO_SUBSCRIBERS else client.unheard.discard)(message_id)
