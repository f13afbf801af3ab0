"""One followed record as spans of OpenTelemetry: who had it, from when to when."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from fleet_contract import topics
from fleet_contract.topics import Up

DEVICE, BROKER, SERVER = "edge-agent", "mqtt-broker", "fleet-server"
_SPAN_ID_CHARS = 16
_CALENDAR = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Journey:
    """A record on its way. The times from `recorded_at` to `sent_at` are by the device's clock, the others by the server's; `asked_at` is None
    where the trace began on the device."""

    id: str
    parent: str
    device: str
    epoch: str
    lane: str
    sequence: int
    latency_us: int
    asked_at: datetime | None
    recorded_at: datetime
    committed_at: datetime
    sent_at: datetime
    received_at: datetime
    compacted_at: datetime

    @property
    def begun_at(self) -> datetime:
        """What a device says may lie beyond the calendar."""
        return self.recorded_at - min(timedelta(microseconds=self.latency_us), self.recorded_at - _CALENDAR)


@dataclass(frozen=True)
class Span:
    """`id` and `parent` in hex (None: a root); `service` is whose time it was. `end` is never before `begin`."""

    id: str
    parent: str | None
    name: str
    service: str
    begin: datetime
    end: datetime
    attributes: Mapping[str, str | int] = field(default_factory=dict)


def of(journey: Journey) -> list[Span]:
    """The whole way of the record under one span, and under that the steps, in order. The same ids whenever it is asked."""
    what: dict[str, str | int] = {
        "edgefleet.device": journey.device,
        "edgefleet.epoch": journey.epoch,
        "edgefleet.lane": journey.lane,
        "edgefleet.sequence": journey.sequence,
    }
    whole = _id(journey.id, "record")
    found = [_span(whole, journey.parent, "record", DEVICE, journey.begun_at, journey.compacted_at, what)]
    if journey.asked_at is not None:
        found.insert(0, _span(journey.parent, None, "follow", SERVER, journey.asked_at, journey.compacted_at, what))
    return found + [
        _span(_id(journey.id, name), whole, name, service, begin, end, attributes)
        for name, service, begin, end, attributes in _steps(journey)
    ]


def _steps(journey: Journey) -> Iterator[tuple[str, str, datetime, datetime, Mapping[str, str | int]]]:
    times = (journey.begun_at, journey.recorded_at, journey.committed_at, journey.sent_at, journey.received_at, journey.compacted_at)
    names = (("infer", DEVICE), ("commit", DEVICE), ("wait", DEVICE), ("deliver", BROKER), ("store", SERVER))
    for (name, service), (begin, end) in zip(names, pairwise(times), strict=True):
        yield name, service, begin, end, _delivery(journey) if name == "deliver" else {}


def _delivery(journey: Journey) -> Mapping[str, str | int]:
    """The one step that begins by one clock and ends by another: the difference as it was, though a span cannot end before it begins."""
    took_us = round((journey.received_at - journey.sent_at) / timedelta(microseconds=1))
    topic = topics.up(journey.device, Up.RECORDS)
    return {"messaging.system": "mqtt", "messaging.destination.name": topic, "edgefleet.two_clocks_us": took_us}


def _span(
    id: str, parent: str | None, name: str, service: str, begin: datetime, end: datetime, attributes: Mapping[str, str | int]
) -> Span:
    return Span(id, parent, name, service, begin, max(begin, end), attributes)


def _id(trace: str, name: str) -> str:
    return hashlib.sha256(f"{trace}/{name}".encode()).hexdigest()[:_SPAN_ID_CHARS]
