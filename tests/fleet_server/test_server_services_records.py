"""Storing records: once each, whatever is sent how often; the bad ones counted; all or nothing."""

import hashlib
import threading

import pytest
from sqlalchemy import func, select

from fleet_contract import batches
from fleet_contract.answers.detail import Box, Boxes, Detail, Ranking, Targets
from fleet_contract.messages import Ack, Batch, Lane, LaneLedger, Result, Sample
from fleet_server.errors import BadRequest, NotFound
from fleet_server.services import devices, records, statuses, streams, telemetry
from fleet_server.tables.database import reading
from fleet_server.tables.result import Result as ResultRow
from tests.fakes.server_world import START, World

SHA = "a" * 64


def a_result(number: int) -> Result:
    return Result(START, SHA, str(number), "yes", 0.5, 10)


def a_batch(first: int, count: int, epoch: str = "e1", lane: Lane = Lane.TELEMETRY) -> Batch:
    return batches.make(epoch, lane, first, [a_result(first + at) for at in range(count)])


@pytest.fixture
def enrolled(world: World) -> World:
    world.enrol("cam-1")
    world.enrol("cam-2")
    return world


def store(world: World, *some: Batch, device: str = "cam-1") -> records.Stored:
    return records.store(world.engine, [(device, batch) for batch in some], START, samples=world.fleet.samples)


def stored_ids(world: World) -> list[str]:
    return [row.input_id for row in telemetry.results(world.engine, device="cam-1", bundle=None, after=0, limit=1000)]


def test_what_is_stored_is_acknowledged(enrolled: World) -> None:
    done = store(enrolled, a_batch(0, 3), a_batch(3, 2))
    ack = {"epoch": "e1", "lane": Lane.TELEMETRY}
    assert done.acks == [("cam-1", Ack(ranges=[(0, 2)], **ack)), ("cam-1", Ack(ranges=[(3, 4)], **ack))]
    assert stored_ids(enrolled) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([(0, 4)], id="the very same"),
        pytest.param([(2, 4)], id="half of it is new"),
        pytest.param([(0, 2), (1, 3), (0, 6)], id="overlapping pieces"),
        pytest.param([(8, 2), (4, 4)], id="a gap that is filled later"),
    ],
)
def test_what_comes_twice_is_stored_once(enrolled: World, again: list[tuple[int, int]]) -> None:
    store(enrolled, a_batch(0, 4))
    done = store(enrolled, *(a_batch(first, count) for first, count in again))
    assert len(done.acks) == len(again)
    wanted = {str(at) for first, count in [(0, 4), *again] for at in range(first, first + count)}
    assert sorted(stored_ids(enrolled), key=int) == sorted(wanted, key=int)
    line = streams.lines(enrolled.engine)[0]
    assert line.stored == len(wanted)
    assert sum(row.count for row in telemetry.tallies(enrolled.engine)) == len(wanted)


@pytest.mark.parametrize(
    ("detail", "stored"),
    [
        pytest.param(
            Ranking(["yes", "no"], [0.75, 0.25]),
            {"type": "ranking", "labels": ["yes", "no"], "values": [0.75, 0.25]},
            id="the likeliest classes",
        ),
        pytest.param(Targets({"wear": float("nan")}), {"type": "targets", "values": {"wear": None}}, id="a target's value that is none"),
        pytest.param(
            Boxes(7, [Box("face", 0.5, 0, 0.25, 1, 0.75)]),
            {"type": "boxes", "found": 7, "boxes": [{"label": "face", "score": 0.5, "x1": 0.0, "y1": 0.25, "x2": 1.0, "y2": 0.75}]},
            id="boxes",
        ),
    ],
)
def test_what_an_answer_says_in_detail_is_stored(enrolled: World, detail: Detail, stored: dict) -> None:
    told = [Result(START, SHA, "1", "yes", 0.5, 10, detail=detail), Result(START, SHA, "2", None, 0.5, 10, abstained=True)]
    store(enrolled, batches.make("e1", Lane.TELEMETRY, 0, told))
    rows = telemetry.results(enrolled.engine, device=None, bundle=None, after=0, limit=10)
    assert [(row.abstained, row.detail) for row in rows] == [(False, stored), (True, None)]
    unsure = telemetry.results(enrolled.engine, device=None, bundle=None, abstained=True, after=0, limit=10)
    assert [row.input_id for row in unsure] == ["2"]


def test_devices_epochs_and_lanes_do_not_share_numbers(enrolled: World) -> None:
    store(enrolled, a_batch(0, 1), a_batch(0, 1, epoch="e2"))
    store(enrolled, a_batch(0, 1), device="cam-2")
    with reading(enrolled.engine) as connection:
        assert connection.execute(select(func.count()).select_from(ResultRow)).scalar_one() == 3


def test_a_malformed_record_is_counted_acknowledged_and_spoils_nothing(enrolled: World) -> None:
    batch = batches.make("e1", Lane.TELEMETRY, 0, [a_result(0), Result(START, SHA, "1", "yes", float("nan"), 10), a_result(2)])
    for _ in range(2):
        assert store(enrolled, batch).acks[0][1].ranges == [(0, 2)]
    assert stored_ids(enrolled) == ["0", "2"]
    line = streams.lines(enrolled.engine)[0]
    assert (line.stored, line.malformed) == (3, 1)


@pytest.mark.parametrize(
    ("device", "batch", "reason"),
    [
        pytest.param("ghost", a_batch(0, 1), "unknown-device", id="not enrolled"),
        pytest.param("cam-1", a_batch(0, 1, epoch="../e"), "bad-epoch", id="epoch charset"),
        pytest.param("cam-1", a_batch(0, 1, epoch="e\0"), "bad-epoch", id="NUL in the epoch"),
    ],
)
def test_what_cannot_be_stored_is_not_acknowledged_and_stops_nobody_else(enrolled: World, device: str, batch: Batch, reason: str) -> None:
    both = [(device, batch), ("cam-2", a_batch(0, 2))]
    done = records.store(enrolled.engine, both, START, samples=enrolled.fleet.samples)
    assert ([acked for acked, _ in done.acks], dict(done.rejected)) == (["cam-2"], {reason: 1})


def test_a_sample_is_a_row_and_a_file(enrolled: World) -> None:
    sample = Sample(START, SHA, "drift-1", "f1", "application/json", b"[1, 2]", "no", 0.6)
    batch = batches.make("e1", Lane.SAMPLES, 0, [sample])
    store(enrolled, batch, batch)
    assert [path.name for path in enrolled.fleet.samples.iterdir()] == [hashlib.sha256(b"[1, 2]").hexdigest()]


def test_the_plain_form_gives_the_acknowledgements(enrolled: World) -> None:
    acks = records.store_batches(enrolled.engine, [("cam-1", a_batch(5, 2))], START, samples=enrolled.fleet.samples)
    assert acks == [("cam-1", Ack(epoch="e1", lane=Lane.TELEMETRY, ranges=[(5, 6)]))]


def test_writers_at_once_store_each_record_once(enrolled: World) -> None:
    together = threading.Barrier(4)
    failures: list[Exception] = []

    def write() -> None:
        together.wait()
        try:
            for first in range(0, 40, 10):
                store(enrolled, a_batch(first, 20))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(stored_ids(enrolled), key=int) == [str(at) for at in range(50)]


def test_a_will_says_only_that_the_device_is_gone(enrolled: World) -> None:
    from fleet_contract.messages import Status

    said = LaneLedger(produced=4, acknowledged=4, queued=0)
    enrolled.say("cam-1", bundle=SHA, phase="idle", ledger={Lane.TELEMETRY: said})
    statuses.observe(enrolled.engine, "cam-1", Status(at=START, online=False, epoch="e1"), enrolled.clock())
    seen = devices.get(enrolled.engine, "cam-1", enrolled.clock())
    assert (seen.online, seen.bundle, seen.ledger["telemetry"].produced) == (False, SHA, 4)


@pytest.mark.parametrize(
    ("device", "status", "error"),
    [
        pytest.param("ghost", {}, NotFound, id="not enrolled"),
        pytest.param("cam-1", {"inputs": -1}, BadRequest, id="negative count"),
        pytest.param("cam-1", {"order_counter": 2**63}, BadRequest, id="a counter no database takes"),
        pytest.param("cam-1", {"refused": {"x": 2**60}}, BadRequest, id="a refusal count out of range"),
        pytest.param("cam-1", {"error": "a\0b"}, BadRequest, id="NUL in a text"),
        pytest.param("cam-1", {"phase": "x" * 2000}, BadRequest, id="a text that is too long"),
    ],
)
def test_statuses_that_are_refused(enrolled: World, device: str, status: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        enrolled.say(device, **status)
