"""Sorts what has come into what is to be stored and what is let go: unreadable, of another kind, or of a device that may not take part."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet_contract import messages, topics
from fleet_contract.errors import BadTopic, ContractError, UnknownVersion
from fleet_contract.messages import Batch
from fleet_contract.mqtt_packets import Publish
from fleet_contract.topics import Up
from fleet_server.inbox.segment import Arrival
from fleet_server.ingest.acks import Stored, stored

_MAX_TOPICS = 65_536
_MAX_ASIDE = 512
"""Messages of devices that are not known yet."""


@dataclass
class Group:
    """Messages of one read. `numbers` are the packet ids to acknowledge once `arrivals` are stored, on the connection that they came on."""

    read_s: float
    numbers: list[int] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    batches: list[Stored] = field(default_factory=list)
    bytes: int = 0
    rows: int = 0


class Intake:
    """`may` says whether a device takes part, None: not known yet; `floods` counts what it sent, in bytes as they are
    once decompressed. `let_go(reason, why)` is called for each message that is not stored."""

    def __init__(
        self,
        may: Callable[[str], bool | None],
        floods: Callable[[str, int], bool],
        let_go: Callable[[str, object], None],
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._may, self._floods, self._let_go, self._now_us = may, floods, let_go, now_us
        self._devices: dict[str, str] = {}
        self._aside: list[Publish] = []

    def aside(self) -> list[Publish]:
        """What was put aside until its device may be known; it is the caller's to sort again."""
        found, self._aside = self._aside, []
        return found

    def sort(self, arrived: Iterable[Publish], read_s: float) -> tuple[Group, list[int]]:
        """What is to be stored, and the packet ids of what is let go. `read_s` is when it came, of a clock that never goes back."""
        group, gone, now_us = Group(read_s), [], self._now_us()
        for message in arrived:
            try:
                device = self._devices.get(message.topic) or self._device(message.topic)
                batch = messages.decode_from_device(message.payload)
            except ContractError as error:
                self._let_go(_reason(error), f"{error} (on {message.topic[:200]})")
                gone.append(message.packet_id)
                continue
            if type(batch) is not Batch:
                self._let_go("wrong-kind", f"{device} sent a {type(batch).__name__} among its records")
                gone.append(message.packet_id)
                continue
            admitted = self._may(device)
            if admitted is None and len(self._aside) < _MAX_ASIDE:
                self._aside.append(message)
                continue
            if not admitted or self._floods(device, max(len(message.payload), batch.length)):
                self._let_go("flood" if admitted else "not-admitted", device)
                gone.append(message.packet_id)
                continue
            group.numbers.append(message.packet_id)
            group.arrivals.append(Arrival(device, now_us, message.payload))
            group.batches.append(stored(device, batch))
            group.bytes += len(message.payload)
            group.rows += batch.count
        return group, gone

    def _device(self, topic: str) -> str:
        device, kind = topics.parse_up(topic)
        if kind is not Up.RECORDS:
            raise BadTopic(f"{topic!r} is not of records", field="topic")
        if len(self._devices) >= _MAX_TOPICS:
            self._devices.clear()
        self._devices[topic] = device
        return device


def _reason(error: ContractError) -> str:
    if isinstance(error, BadTopic):
        return "foreign-topic"
    return "unknown-version" if isinstance(error, UnknownVersion) else "malformed"
