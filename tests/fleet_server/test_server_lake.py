"""The lake: what devices sent is stored once each, whatever comes how often; the bad ones counted; all or nothing."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from fleet_contract import batches, columns, messages
from fleet_contract.answers.detail import Box, Boxes, Detail, Ranking, Targets
from fleet_contract.messages import Batch, Event, Lane, Result, Sample, Trace
from fleet_server.inbox.port import Segment
from fleet_server.inbox.segment import Arrival
from fleet_server.lake import catalogue, turn
from fleet_server.lake.turn import Lake
from fleet_server.services import streams, telemetry
from fleet_server.tables.database import reading
from fleet_server.tables.event import Event as EventRow
from fleet_server.tables.minutes import Minute
from fleet_server.tables.stream import MalformedRecord
from fleet_server.tables.trace import Trace as TraceRow
from tests.fakes.server_world import START, World

SHA = "a" * 64


def a_result(number: int, **other: Any) -> Result:
    return Result(**{"at": START, "bundle": SHA, "input_id": str(number), "label": "yes", "value": 0.5, "latency_us": 10} | other)


def a_batch(first: int, count: int, epoch: str = "e1", stride: int = 1) -> Batch:
    numbers = range(first, first + count * stride, stride)
    made = batches.make(epoch, Lane.TELEMETRY, first, [a_result(number) for number in numbers])
    return msgspec.structs.replace(made, stride=stride)


@pytest.fixture
def enrolled(world: World) -> World:
    world.enrol("cam-1")
    world.enrol("cam-2")
    return world


def rows(world: World) -> list[dict]:
    """What the files that count hold, in the order of the numbers."""
    with reading(world.engine) as connection:
        files = catalogue.listed(connection)
    found = [row for file in files for row in pq.read_table(world.fleet.lake / file.path, partitioning=None).to_pylist()]
    assert sum(file.rows for file in files) == len(found)
    return sorted(found, key=lambda row: (row["device"], row["epoch"], row["seq"]))


def numbers(world: World) -> list[int]:
    return [row["seq"] for row in rows(world)]


def test_an_inference_is_stored_as_it_was_recorded(enrolled: World) -> None:
    batch = batches.make("e1", Lane.TELEMETRY, 7, [a_result(7), a_result(8, label=None, abstained=True)], mono_us=[5, 9], boot="b1")
    enrolled.take("cam-1", batch)
    first, second = rows(enrolled)
    received = {"received_at": enrolled.clock(), "mono_us": 5, "boot": "b1", "clock": "trusted"}
    answer = {"bundle": SHA, "input_id": "7", "label": "yes", "value": 0.5, "latency_us": 10, "abstained": False, "detail": None}
    assert first == {"device": "cam-1", "epoch": "e1", "seq": 7, "at": START, **received, **answer}
    assert second == first | {"seq": 8, "mono_us": 9, "input_id": "8", "label": None, "abstained": True}


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([(0, 4)], id="the very same"),
        pytest.param([(2, 4)], id="half of it is new"),
        pytest.param([(0, 2), (1, 3), (0, 6)], id="overlapping pieces"),
        pytest.param([(8, 2), (4, 4)], id="a gap that is filled later"),
    ],
)
@pytest.mark.parametrize("turns", [pytest.param(True, id="each in a turn of its own"), pytest.param(False, id="in one turn")])
def test_what_comes_twice_is_stored_once(enrolled: World, again: list[tuple[int, int]], turns: bool) -> None:
    come = [a_batch(0, 4), *(a_batch(first, count) for first, count in again)]
    for some in [[batch] for batch in come] if turns else [come]:
        enrolled.take("cam-1", *some)
    wanted = sorted({at for first, count in [(0, 4), *again] for at in range(first, first + count)})
    assert numbers(enrolled) == wanted
    (line,) = streams.lines(enrolled.engine)
    assert line.stored == len(wanted)
    assert sum(row.count for row in telemetry.tallies(enrolled.engine)) == len(wanted)
    with reading(enrolled.engine) as connection:
        assert connection.execute(select(func.sum(Minute.inputs))).scalar_one() == len(wanted)


def test_a_thinned_batch_has_the_numbers_that_were_left(enrolled: World) -> None:
    enrolled.take("cam-1", a_batch(0, 4, stride=2), a_batch(8, 2))
    assert numbers(enrolled) == [0, 2, 4, 6, 8, 9]


@pytest.mark.parametrize(
    ("detail", "stored"),
    [
        pytest.param(Ranking(["yes"], [0.75]), {"type": "ranking", "labels": ["yes"], "values": [0.75]}, id="the likeliest classes"),
        pytest.param(Targets({"wear": float("nan")}), {"type": "targets", "values": {"wear": None}}, id="a target's value that is none"),
        pytest.param(
            Boxes(7, [Box("face", 0.5, 0, 0.25, 1, 0.75)]),
            {"type": "boxes", "found": 7, "boxes": [{"label": "face", "score": 0.5, "x1": 0.0, "y1": 0.25, "x2": 1.0, "y2": 0.75}]},
            id="boxes",
        ),
    ],
)
def test_what_an_answer_says_in_detail_is_stored(enrolled: World, detail: Detail, stored: dict) -> None:
    enrolled.take("cam-1", batches.make("e1", Lane.TELEMETRY, 0, [a_result(0, detail=detail), a_result(1)]), a_batch(2, 1))
    assert [row["detail"] and msgspec.json.decode(row["detail"]) for row in rows(enrolled)] == [stored, None, None]


def test_devices_and_epochs_do_not_share_numbers(enrolled: World) -> None:
    enrolled.take("cam-1", a_batch(0, 1), a_batch(0, 1, epoch="e2"))
    enrolled.take("cam-2", a_batch(0, 1))
    assert [(row["device"], row["epoch"]) for row in rows(enrolled)] == [("cam-1", "e1"), ("cam-1", "e2"), ("cam-2", "e1")]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param({"value": float("nan")}, "not-finite", id="no number"),
        pytest.param({"bundle": "x"}, "bad-bundle-digest", id="no digest"),
        pytest.param({"label": "a\0"}, "bad-text", id="NUL in a label"),
        pytest.param({"input_id": "a\0"}, "bad-text", id="NUL in an id"),
        pytest.param({"input_id": "ä" * 1001}, "bad-text", id="an id that is too long"),
        pytest.param({"latency_us": 2**60}, "out-of-range", id="a latency that no number in JSON has"),
        pytest.param({"at": START.replace(year=9500)}, "out-of-range", id="a time that some clients cannot read"),
    ],
)
def test_a_malformed_row_is_counted_and_spoils_nothing(enrolled: World, bad: dict, reason: str) -> None:
    batch = batches.make("e1", Lane.TELEMETRY, 0, [a_result(0), a_result(1, **bad), a_result(2)])
    for _ in range(2):
        enrolled.take("cam-1", a_batch(10, 2), batch)
    assert numbers(enrolled) == [0, 2, 10, 11]
    (line,) = streams.lines(enrolled.engine)
    assert (line.stored, line.malformed) == (5, 1)
    with reading(enrolled.engine) as connection:
        assert [(row.seq, row.count, row.reason) for row in connection.execute(select(MalformedRecord))] == [(1, 1, reason)]


def _content(**other: Any) -> Batch:
    """A batch whose columns are not what columns.from_results makes."""
    content = msgspec.structs.replace(columns.from_results([a_result(0), a_result(1, label="no")], [0, 0]), **other)
    packed = batches.seal(content)
    return Batch("e1", Lane.TELEMETRY, 0, 2, packed.codec, packed.length, packed.data, "")


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(Batch("e1", Lane.TELEMETRY, 0, 2, "zstd", 100, b"garbage", ""), id="not zstd"),
        pytest.param(Batch("e1", Lane.TELEMETRY, 0, 2, "none", 7, b"garbage", ""), id="no columns"),
        pytest.param(_content(value=b"12345678"), id="a column that is too short"),
        pytest.param(_content(label=b"\0\0\7\0"), id="a label that the list does not have"),
        pytest.param(_content(labels=[]), id="no list of labels"),
        pytest.param(_content(input_id=columns.Words(b"ab", b"\2\0\0\0\1\0\0\0")), id="ends that go back"),
        pytest.param(_content(input_id=columns.Words(b"abc", b"\1\0\0\0\2\0\0\0")), id="ends before the end"),
        pytest.param(_content(input_id=columns.Words("ä".encode(), b"\1\0\0\0\2\0\0\0")), id="half a letter"),
    ],
)
def test_a_batch_that_cannot_be_read_is_counted_and_spoils_no_other(enrolled: World, batch: Batch) -> None:
    taken = enrolled.take("cam-1", a_batch(2, 2), batch, a_batch(4, 2))
    assert (numbers(enrolled), taken.malformed, taken.new.total()) == ([2, 3, 4, 5], 2, 6)
    (line,) = streams.lines(enrolled.engine)
    assert (line.stored, line.malformed) == (6, 2)


def test_what_belongs_to_no_stream_is_counted_and_stops_nobody_else(enrolled: World) -> None:
    sent = [("ghost", a_batch(0, 1)), ("cam-1", a_batch(0, 1, epoch="../e")), ("cam-2", a_batch(0, 2))]
    arrivals = [Arrival(device, 0, messages.encode(batch)) for device, batch in sent] + [Arrival("cam-1", 0, b"noise")]
    lake = Lake(enrolled.fleet.home, enrolled.engine)
    taken = turn.take(lake, [Segment(1, arrivals)], 0, START, twins=enrolled.twins)
    assert taken.refused == Counter({"unknown-device": 1, "bad-epoch": 1, "malformed-message": 1})
    assert numbers(enrolled) == [0, 1]


def test_a_clock_that_was_never_set_strews_no_files(enrolled: World) -> None:
    odd = [a_result(at, at=START.replace(year=1970 + at)) for at in range(3)]
    taken = enrolled.take("cam-1", batches.make("e1", Lane.TELEMETRY, 0, [*odd, a_result(3)]))
    assert (taken.files, numbers(enrolled)) == (1, [0, 1, 2, 3])


def test_a_sample_is_a_row_and_a_file(enrolled: World) -> None:
    sample = Sample(START, SHA, "drift-1", "f1", "application/json", b"[1, 2]", "no", 0.6)
    batch = batches.make("e1", Lane.SAMPLES, 0, [sample])
    enrolled.take("cam-1", batch, batch)
    assert [path.name for path in enrolled.fleet.samples.iterdir()] == [hashlib.sha256(b"[1, 2]").hexdigest()]


def test_a_followed_record_tells_when_it_was_stored(enrolled: World) -> None:
    trace = Trace("1" * 32, "2" * 16, 0, START, START, START, 10)
    batch = msgspec.structs.replace(a_batch(0, 1), trace=trace)
    enrolled.take("cam-1", batch)
    enrolled.take("cam-2", batch)
    with reading(enrolled.engine) as connection:
        (row,) = connection.execute(select(TraceRow))
    assert (row.device, row.sequence, row.sent_at, row.compacted_at) == ("cam-1", 0, START, row.received_at)


@pytest.fixture(params=["files", "streams", "catalogue", "minutes", "rows", "commit"])
def killed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The compactor dies at this step, once."""
    steps = {
        "files": "fleet_server.lake.turn.catalogue.advance",
        "streams": "fleet_server.lake.streams.save",
        "catalogue": "fleet_server.lake.catalogue.add",
        "minutes": "fleet_server.lake.rollups.save",
        "rows": "fleet_server.lake.rows.save",
        "commit": "fleet_server.lake.following.save",
    }

    def die(*_: object) -> None:
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(steps[request.param], die)
        yield patch


def test_a_turn_that_is_killed_leaves_nothing_twice_and_nothing_lost(enrolled: World, killed: pytest.MonkeyPatch) -> None:
    event = batches.make("e1", Lane.EVENTS, 0, [Event(START, "agent.started")])
    with pytest.raises(SystemExit):
        enrolled.take("cam-1", a_batch(0, 4), event)
    assert (numbers(enrolled), streams.lines(enrolled.engine)) == ([], [])
    killed.undo()
    enrolled.take("cam-1", a_batch(0, 4), event)
    assert numbers(enrolled) == [0, 1, 2, 3]
    assert [line.stored for line in streams.lines(enrolled.engine)] == [1, 4]
    with reading(enrolled.engine) as connection:
        assert connection.execute(select(func.count()).select_from(EventRow)).scalar_one() == 1


def test_what_an_interrupted_turn_left_is_found(enrolled: World, killed: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        enrolled.take("cam-1", a_batch(0, 4), batches.make("e1", Lane.EVENTS, 0, [Event(START, "agent.started")]))
    assert _strays(enrolled.fleet.lake, set()) == ["1-1.parquet"]


def _strays(root: Path, known: set[str]) -> list[str]:
    return [path.name for path in catalogue.strays(root, known)]
