"""Inputs that are published on an MQTT topic."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from edge_agent.ports import Clock, Input
from edge_agent.sources.backlog import QUEUE_FULL, Backlog, Rules
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
    refused. A message is acknowledged when it waits; with `block` when its last row is taken, so that a broker with MQTT 5 holds back the rest.
    What is published while the connection is down depends on the broker: a lost connection is counted, and what comes next does not follow."""

    def __init__(self, topic: Topic, client_id: str, clock: Clock, rules: Rules, backoff: Backoff = Backoff()) -> None:
        access = replace(topic.access, max_packet_bytes=limits.MAX_IMAGE_BYTES + limits.KIB)
        access = replace(access, receive_maximum=min(rules.max_items, access.receive_maximum))
        self._topic, self._client_id, self._clock, self._backoff = replace(topic, access=access), client_id, clock, backoff
        self._losses = Losses()
        self._backlog = Backlog(rules, self._losses)
        self._session: mqtt.Session | None = None

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        payloads = Payloads(spec, self._clock, self._topic.time, f"the topic {self._topic.name}")
        self.close()
        self._backlog.forget()
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
        waits = self._backlog.blocks
        for row in inputs[:-1]:
            self._offer(row, None)
        if not self._offer(inputs[-1], acknowledge if waits else None) or not waits:
            acknowledge()

    def _offer(self, row: Input, on_taken: mqtt.Acknowledge | None) -> bool:
        """What a broker sends beyond the receive maximum, as one without MQTT 5 may, is lost."""
        is_taken = self._backlog.offer(row, on_taken)
        if not is_taken and self._backlog.blocks:
            self._losses.add(QUEUE_FULL)
            self._backlog.interrupt()
        return is_taken
