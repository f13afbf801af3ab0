"""A device in a shared pass, on a real connection: it takes what comes, checks nothing but the bytes, and can be made slow or deaf."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_contract import blocks, limits, messages, packets, topics
from fleet_contract.messages import Ack, Packet, Progress, Refusal, Want
from fleet_contract.mqtt import Session
from fleet_contract.topics import Up
from tests.fakes.server_broker import PATIENCE_S, Place


@dataclass
class Member:
    """`hears(sequence)` False loses that packet of the pass; `reports` False says nothing of its progress."""

    place: Place
    name: str
    path: str
    block_bytes: int
    count: int
    reports: bool = True
    hears: Callable[[int], bool] = lambda _: True
    have: dict[int, bytes] = field(default_factory=dict)
    packets: int = 0
    acks: list[Ack] = field(default_factory=list)
    orders: list[bytes] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        subscriptions = [topics.all_down(self.name), topics.shared(self.path, self.block_bytes)]
        tls = self.place.device(self.name)
        self._session = Session(self.place.url, self.name, tls, subscriptions=subscriptions, on_message=self._take)
        self._session.start()
        if not self._session.wait_connected(PATIENCE_S):
            raise AssertionError("no connection")

    def want(self, *numbers: int, shared: bool = True, request: str = "want") -> None:
        need = blocks.to_bitmap(numbers or range(self.count), self.count)
        self._send(Want(f"{request} of {self.name}", self.path, self.block_bytes, need, **({"shared": True} if shared else {})))

    def until(self, enough: Callable[["Member"], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self), PATIENCE_S), "that never came"

    def lacks(self) -> list[int]:
        return sorted(set(range(self.count)) - set(self.have))

    def content(self) -> bytes:
        return b"".join(data for _, data in sorted(self.have.items()))

    def close(self) -> None:
        self._session.close()

    def _send(self, message: Want | Progress) -> None:
        self._session.publish(topics.up(self.name, Up.WANT), messages.encode(message))

    def _take(self, topic: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        with self.changed:
            if topic == topics.down(self.name, topics.Down.ORDER):
                self.orders.append(payload)
            else:
                self._take_message(topics.is_shared(topic), messages.decode_to_device(payload))
            self.changed.notify_all()

    def _take_message(self, shared: bool, message: messages.ToDevice) -> None:
        if isinstance(message, Ack):
            self.acks.append(message)
        elif isinstance(message, Refusal):
            self.refusals.append(message)
        elif isinstance(message, Packet) and (not shared or self.hears(message.sequence)):
            self.packets += 1
            self.have.update(packets.unpack(message, self.block_bytes))
            if shared and self.reports and message.sequence % limits.CREDIT_PACKETS == 0:
                self._send(Progress(message.request, message.sequence))
