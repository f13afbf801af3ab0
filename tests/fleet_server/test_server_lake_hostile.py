"""What enrolled devices that mean harm send: it is counted or let go, and the compactor takes in what others sent."""

import random
from collections.abc import Iterable
from datetime import timedelta, timezone

import msgspec
import pytest
from sqlalchemy import Connection, func, select

from fleet_contract import batches, columns, messages
from fleet_contract.errors import MalformedMessage
from fleet_contract.messages import Batch, Event, Lane, Result, Sample, Trace
from fleet_server.inbox.port import Segment
from fleet_server.inbox.segment import Arrival
from fleet_server.lake import catalogue, suspicion, turn
from fleet_server.lake.turn import Lake
from fleet_server.services import measurements, streams
from fleet_server.tables.database import reading
from fleet_server.tables.trace import Trace as TraceRow
from tests.fakes.server_world import START, World

SHA = "a" * 64
CHOSEN = random.Random(1)
LONG = "".join(chr(CHOSEN.randrange(0x4E00, 0x9FFF)) for _ in range(1_000))
"""A word of as many letters as may be, which cannot be compressed and is longer in UTF-8 than what PostgreSQL puts in an index."""


def a_batch(first: int, count: int = 1, label: str = "yes") -> Batch:
    return batches.make("e1", Lane.TELEMETRY, first, [Result(START, SHA, str(number), label, 0.5, 10) for number in range(count)])


def an_event(number: int, kind: str) -> Batch:
    return batches.make("e1", Lane.EVENTS, number, [Event(START, kind)])


@pytest.fixture
def enrolled(world: World) -> World:
    world.enrol("cam-1")
    world.enrol("cam-2")
    return world


def stored(world: World, device: str) -> list[tuple[str, int, int]]:
    return [(line.lane, line.stored, line.malformed) for line in streams.lines(world.engine, [device])]


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        pytest.param(a_batch(0, label=LONG), ("telemetry", 1, 1), id="a label that no index takes"),
        pytest.param(an_event(0, LONG), ("events", 1, 1), id="a kind that no index takes"),
        pytest.param(
            batches.make("e1", Lane.SAMPLES, 0, [Sample(START, SHA, LONG, "f1", "image/png", b"x", "no", 0.5)]),
            ("samples", 1, 1),
            id="a campaign that no index takes",
        ),
        pytest.param(msgspec.structs.replace(a_batch(2**53), boot="a\0\nb"), ("telemetry", 1, 0), id="the last number, a run with a NUL"),
    ],
)
def test_one_device_stops_nobody_else(enrolled: World, batch: Batch, line: tuple[str, int, int]) -> None:
    enrolled.take("cam-1", batch, batch)
    enrolled.take("cam-2", a_batch(0))
    assert (stored(enrolled, "cam-1"), stored(enrolled, "cam-2")) == ([line], [("telemetry", 1, 0)])


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_trace_at_a_time_that_no_database_has_is_let_go(enrolled: World, at: str) -> None:
    odd = START.astimezone(timezone(timedelta(hours=14)))
    batch = msgspec.structs.replace(a_batch(0), trace=Trace("1" * 32, "2" * 16, 0, odd, START, START))
    version, body = msgspec.msgpack.decode(messages.encode(batch))
    body["trace"]["recorded_at"] = at
    lake, arrival = Lake(enrolled.fleet.home, enrolled.engine), Arrival("cam-1", 0, msgspec.msgpack.encode((version, body)))
    assert turn.take(lake, [Segment(1, [arrival])], 0, START, twins=enrolled.twins).new.total() == 1
    with reading(enrolled.engine) as connection:
        assert connection.execute(select(func.count()).select_from(TraceRow)).scalar_one() == 0


@pytest.mark.parametrize("names", ["labels", "bundles"])
def test_more_names_than_rows_are_not_taken_apart(names: str) -> None:
    content = columns.from_results([Result(START, SHA, "f1", "yes", 0.5, 10)], [0])
    many = [*getattr(content, names), *map(str, range(1_000))]
    packed = batches.seal(msgspec.structs.replace(content, **{names: many}))
    with pytest.raises(MalformedMessage, match="length"):
        batches.decode(Batch("e1", Lane.TELEMETRY, 0, 1, packed.codec, packed.length, packed.data, ""))


def test_who_is_to_blame_is_found_among_many_and_what_fails_only_together(enrolled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    take_in = measurements.note

    def trip(connection: Connection, device: str, events: Iterable[Event]) -> None:
        kinds = {event.kind for event in events}
        if "poison" in kinds or {"bride", "groom"} <= kinds:
            raise RuntimeError("nobody thought of this")
        take_in(connection, device, events)

    monkeypatch.setattr(measurements, "note", trip)
    kinds = ["x", "bride", "x", "poison", "x", "groom", "x"]
    sent = [an_event(at, kind) for at, kind in enumerate(kinds)]
    segment = Segment(1, [Arrival("cam-1", 0, messages.encode(batch)) for batch in sent])
    lake = Lake(enrolled.fleet.home, enrolled.engine)
    found = suspicion.culprits(lake, segment, 0, START)
    assert found == {sent[3].data, sent[5].data}
    taken = turn.take(lake, [segment], 0, START, twins=enrolled.twins, suspects=found)
    assert (taken.new.total(), taken.malformed, catalogue.watermark(enrolled.engine)) == (7, 2, 1)


def test_a_disk_that_is_full_accuses_nobody(enrolled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(turn.parquet, "write", fail)
    segment = Segment(1, [Arrival("cam-1", 0, messages.encode(a_batch(0)))])
    with pytest.raises(OSError, match="no space"):
        suspicion.culprits(Lake(enrolled.fleet.home, enrolled.engine), segment, 0, START)
