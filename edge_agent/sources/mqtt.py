"""Inputs that are published on an MQTT topic."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from edge_agent.ports import Clock, Input
from edge_agent.sources.backlog import MODEL_CHANGED, QUEUE_FULL, Backlog, Rules
from edge_agent.sources.losses import Losses
from edge_agent.sources.payloads import BadPayload, Payloads
from fleet_contract import limits, mqtt
from fleet_contract.backoff import Backoff
from fleet_contract.broker import Access, Tls
from fleet_contract.inputs import InputSpec

SOURCE_LOST = "source-lost"


@dataclass(frozen=True)
class Topic:
    """`url` is the broker's; `name` may hold wildcards; `tls` None is plain. `time` names the field of a JSON row that says when it was taken."""

    url: str
    name: str
    tls: Tls | None = None
    access: Access = field(default_factory=Access)
    time: str | None = None


class Subscription:
    """Listens while it is read, at QoS 1: each message is a JSON row, a list of rows, or the bytes of one picture; one that is none of these comes out
    refused. With `block` a message is acknowledged when all its rows wait, and the broker is asked to send one at a time (MQTT 5, 3.1.2.11.3), so that
    it holds back the rest; of what it sends all the same, as many messages are held as the queue has places. What is published while the connection
    is down depends on the broker: a lost connection is counted, and what comes next does not follow."""

    def __init__(self, topic: Topic, client_id: str, clock: Clock, rules: Rules, backoff: Backoff = Backoff()) -> None:
        access = replace(topic.access, max_packet_bytes=limits.MAX_IMAGE_BYTES + limits.KIB)
        if rules.policy == "block":
            access = replace(access, receive_maximum=1)  # Mosquitto 2.0.11 sends as many as this for each acknowledgement
        self._topic, self._client_id, self._clock, self._backoff = replace(topic, access=access), client_id, clock, backoff
        self._losses = Losses()
        self._backlog = Backlog(rules, self._losses, on_room=self._feed)
        self._max_held = rules.max_items
        self._held: deque[tuple[deque[Input], mqtt.Acknowledge]] = deque()
        self._order = threading.Lock()
        self._session: mqtt.Session | None = None

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        payloads = Payloads(spec, self._clock, self._topic.time, f"the topic {self._topic.name}")
        self.close()
        self._forget()
        session = self._session = self._open(payloads)
        session.start()
        try:
            yield from self._backlog.read()
        finally:
            session.close()

    def losses(self) -> dict[str, int]:
        return self._losses.take()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self, payloads: Payloads) -> mqtt.Session:
        return mqtt.Session(
            self._topic.url,
            self._client_id,
            self._topic.tls,
            subscriptions=[self._topic.name],
            on_message=lambda _, payload, acknowledge: self._take(payloads, payload, acknowledge),
            on_disconnected=self._note_loss,
            backoff=self._backoff,
            access=self._topic.access,
        )

    def _note_loss(self) -> None:
        self._losses.add(SOURCE_LOST)
        self._backlog.interrupt()

    def _take(self, payloads: Payloads, payload: bytes, acknowledge: mqtt.Acknowledge) -> None:
        try:
            inputs = payloads.parse(payload)
        except BadPayload as error:
            inputs = [error.refused]
        with self._order:
            if len(self._held) < self._max_held:
                self._held.append((deque(inputs), acknowledge))
            else:
                self._losses.add(QUEUE_FULL, len(inputs))
                self._backlog.interrupt()
                acknowledge()
        self._feed()

    def _feed(self) -> None:
        """From the broker to the queue, in order, as far as there is room."""
        with self._order:
            while self._held:
                rows, acknowledge = self._held[0]
                while rows and (self._backlog.offer(rows[0]) or not self._backlog.blocks):
                    rows.popleft()
                if rows:
                    return
                self._held.popleft()
                acknowledge()

    def _forget(self) -> None:
        with self._order:
            lost = sum(len(rows) for rows, _ in self._held)
            self._held.clear()
        if lost:
            self._losses.add(MODEL_CHANGED, lost)
        self._backlog.forget()
