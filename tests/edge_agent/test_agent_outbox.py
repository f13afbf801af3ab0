"""The outbox keeps what it took, forgets what was acknowledged, and its numbers always add up."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import Retry
from edge_agent.monitor.books import DISK_SLOW
from edge_agent.outbox import database
from edge_agent.outbox.entries import MALFORMED, TOO_LARGE
from edge_agent.outbox.eviction import DISK_FULL, QUOTA, THINNED
from edge_agent.outbox.shelf import Done
from edge_agent.outbox.staging import Work
from edge_agent.outbox.store import Outbox
from fleet_contract import columns, limits
from fleet_contract.batches import unpack
from fleet_contract.messages import DAMAGED, DROP_REASONS, Batch, Event, Follow, Lane, Record, Result, Sample, encode
from tests.fakes.agent_outbox import Clocks, open_outbox, records_in

AT = Clocks().now.at


def event(text: str = "x") -> Event:
    return Event(at=AT, kind="test", detail={"text": text})


def result(name: str, at: datetime = AT) -> Result:
    return Result(at=at, bundle="b" * 64, input_id=name, label="1", value=0.5, latency_us=10)


def odd_result(name: str, **fields) -> Result:
    return msgspec.structs.replace(result(name), **fields)


def sample(size: int) -> Sample:
    return Sample(at=AT, bundle="b" * 64, campaign="c", input_id="i", media_type="image/png", data=os.urandom(size), label="1", value=0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def outbox(path: Path, clocks: Clocks) -> Iterator[Outbox]:
    with closing(open_outbox(path, clocks)) as opened:
        yield opened


def balanced(outbox: Outbox) -> bool:
    return all(lane.produced == lane.acknowledged + lane.queued + sum(lane.dropped.values()) for lane in outbox.ledger().values())


def names(found: list[Batch]) -> list[str]:
    return [record.input_id for record in records_in(found) if isinstance(record, Result)]


def spans(found: list[Batch]) -> list[tuple[Lane, int, int]]:
    return [(batch.lane, batch.first, batch.count) for batch in found]


class TestAppend:
    def test_records_cursor_and_marks_survive_a_new_process(self, path: Path) -> None:
        with closing(open_outbox(path)) as first:
            first.append([result("1")], cursor="frame-1", marks={"campaign": "c1"})
        with closing(open_outbox(path, epoch="another")) as second:
            found = (second.epoch, second.cursor(), second.mark("campaign"), names(second.batches(9)))
        assert found == ("epoch-1", "frame-1", "c1", ["1"])

    def test_nothing_was_ever_marked(self, outbox: Outbox) -> None:
        assert (outbox.cursor(), outbox.mark("campaign")) == (None, None)

    def test_no_records_may_still_move_the_cursor(self, outbox: Outbox) -> None:
        outbox.append([], cursor="7")
        assert outbox.cursor() == "7"
        assert outbox.batches(10) == []

    def test_a_record_that_is_too_large_is_counted_and_the_others_are_kept(self, outbox: Outbox) -> None:
        outbox.append([sample(limits.MAX_RECORD_BYTES + 1), sample(10), result("x" * limits.MAX_RECORD_BYTES), result("1")])
        for lane in (Lane.SAMPLES, Lane.TELEMETRY):
            kept = outbox.ledger()[lane]
            assert (kept.produced, kept.queued, kept.dropped) == (2, 1, {TOO_LARGE: 1})

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(odd_result("\udcff"), id="a name that is no UTF-8"),
            pytest.param(odd_result("1", latency_us=-1), id="a number out of range"),
        ],
    )
    def test_a_record_that_nothing_can_carry_is_counted_and_holds_nothing_up(self, outbox: Outbox, bad: Result) -> None:
        outbox.append([bad], cursor="1")
        outbox.append([Event(at=AT, kind="\udcff")])
        outbox.append([result("2")], cursor="2")
        assert (names(outbox.batches(9)), outbox.cursor()) == (["2"], "2")
        assert [outbox.ledger()[lane].dropped for lane in (Lane.TELEMETRY, Lane.EVENTS)] == [{"malformed": 1}] * 2

    def test_what_is_no_record_leaves_nothing_behind(self, outbox: Outbox) -> None:
        with pytest.raises(KeyError):
            outbox.append([result("1"), "no record"], cursor="9")  # type: ignore[list-item]
        outbox.append([result("2")])
        assert (names(outbox.batches(9)), outbox.cursor()) == (["2"], None)


class TestSubmit:
    def test_it_is_committed_in_order_and_seen_by_whoever_asks_at_once(self, outbox: Outbox) -> None:
        assert outbox.submit([result("1")], cursor="1")
        assert outbox.submit([result("2")], cursor="2", marks={"m": "x"})
        assert (outbox.cursor(), outbox.mark("m")) == ("2", "x")
        outbox.append([result("3")])
        assert names(outbox.batches(9)) == ["1", "2", "3"]

    def test_what_was_submitted_is_committed_when_it_is_closed(self, path: Path) -> None:
        with closing(open_outbox(path, commit_within_s=60)) as outbox:
            outbox.submit([result("1")], cursor="1")
        with closing(open_outbox(path)) as outbox:
            assert (names(outbox.batches(9)), outbox.cursor()) == (["1"], "1")

    def test_calls_that_wait_for_one_commit_are_one_unit(self, path: Path) -> None:
        with closing(open_outbox(path, commit_within_s=60)) as outbox:
            for number in range(50):
                outbox.submit([result(str(number)), event()])
            outbox.append([])
            assert spans(outbox.batches(9)) == [(Lane.EVENTS, 0, 50), (Lane.TELEMETRY, 0, 50)]

    def test_nothing_is_taken_when_too_much_waits_and_nobody_waits_for_the_disk(self, path: Path) -> None:
        with closing(open_outbox(path, staged_bytes=64 * limits.KIB)) as outbox:
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            taken = [outbox.submit([sample(20_000)], cursor=str(n)) for n in range(6)]
            refused = taken.count(False)
            outbox.drop([sample(1)] * refused, "disk-slow")
            holder.execute("ROLLBACK")
            holder.close()
            outbox.append([])
            lane = outbox.ledger()[Lane.SAMPLES]
            assert (taken[:3], taken[3:]) == ([True] * 3, [False] * 3)
            assert (lane.produced, lane.queued, lane.dropped) == (6, 3, {"disk-slow": 3})
            assert outbox.cursor() == "2"

    def test_closing_does_not_wait_for_a_disk_that_takes_nothing(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many commits what was submitted would take."""
        tried: list[int] = []

        def fail(work: Work, *_: object) -> Done:
            tried.append(len(work.entries))
            raise Retry("the disk is full", code="disk")

        monkeypatch.setattr(outbox._shelf, "commit", fail)
        for _ in range(30):
            assert outbox.submit([sample(40_000)])
        outbox.close()
        assert tried and max(tried) < 30
        assert outbox.ledger()[Lane.SAMPLES].produced == 0

    def test_a_closed_outbox_takes_nothing(self, path: Path) -> None:
        outbox = open_outbox(path)
        outbox.close()
        assert not outbox.submit([event()])
        with pytest.raises(Retry, match="closed"):
            outbox.append([event()])


class TestBatches:
    def test_highest_lane_first_and_each_lane_in_order(self, outbox: Outbox) -> None:
        outbox.append([sample(5), result("1"), event(), result("2")])
        assert spans(outbox.batches(10)) == [(Lane.EVENTS, 0, 1), (Lane.TELEMETRY, 0, 2), (Lane.SAMPLES, 0, 1)]

    def test_only_the_lanes_that_are_asked_for(self, outbox: Outbox) -> None:
        outbox.append([result("1"), event()])
        assert spans(outbox.batches(10, lanes=[Lane.EVENTS])) == [(Lane.EVENTS, 0, 1)]
        assert spans(outbox.batches(10)) == [(Lane.TELEMETRY, 0, 1)]

    def test_small_units_are_one_before_they_are_first_sent_and_the_same_ever_after(self, path: Path) -> None:
        with closing(open_outbox(path)) as outbox:
            for number in range(5):
                outbox.append([result(str(number))])
            sent = outbox.batches(10)
            outbox.append([result("5")])
            assert (spans(sent), names(outbox.batches(10))) == ([(Lane.TELEMETRY, 0, 5)], ["5"])
            outbox.rewind()
            assert outbox.batches(1) == sent
        with closing(open_outbox(path)) as outbox:
            assert outbox.batches(1) == sent

    def test_one_unit_is_handed_out_again_on_demand(self, outbox: Outbox) -> None:
        outbox.append([result("1"), event()])
        outbox.batches(10)
        outbox.rewind([(Lane.TELEMETRY, 0), (Lane.SAMPLES, 7)])
        assert spans(outbox.batches(10)) == [(Lane.TELEMETRY, 0, 1)]

    def test_no_batch_breaks_a_limit(self, outbox: Outbox) -> None:
        many = [result(os.urandom(200).hex()) for n in range(2 * limits.MAX_BATCH_RECORDS + 1)]
        outbox.append([*many, *[sample(40_000)] * 3])
        found = outbox.batches(100)
        assert all(batch.count <= limits.MAX_BATCH_RECORDS and encode(batch) for batch in found)
        assert records_in(found)[: len(many)] == many

    def test_after_a_new_connection_the_newest_goes_first_and_events_all(self, outbox: Outbox) -> None:
        outbox.append([result("old"), event()])
        outbox.rewind()
        outbox.append([result("new"), event()])
        assert spans(outbox.batches(10, fresh=True)) == [(Lane.EVENTS, 0, 2), (Lane.TELEMETRY, 1, 1)]
        assert names(outbox.batches(10, fresh=False)) == ["old"]

    def test_at_most_as_many_as_asked_for(self, outbox: Outbox) -> None:
        outbox.append([sample(40_000)] * 5)
        assert len(outbox.batches(2)) == 2
        assert [batch.first for batch in outbox.batches(10)] == [2, 3, 4]

    def test_a_followed_result_is_traced(self, outbox: Outbox, clocks: Clocks) -> None:
        outbox.append([result("before")])
        outbox.follow(Follow("a" * 32, "b" * 16))
        outbox.append([event()])
        outbox.append([result("followed"), result("after")])
        clocks.go(5)
        (batch,) = outbox.batches(9, lanes=[Lane.TELEMETRY])
        trace = batch.trace
        assert (trace.id, trace.sequence, trace.latency_us) == ("a" * 32, 1, 10)
        assert (trace.recorded_at, trace.sent_at) == (AT, AT + timedelta(seconds=5))


class TestTimes:
    def test_each_record_has_its_time_on_the_monotonic_clock(self, outbox: Outbox) -> None:
        outbox.append([result("1", AT - timedelta(milliseconds=250)), result("2")])
        (batch,) = outbox.batches(9)
        assert (batch.boot, batch.clock, columns.sums(unpack(batch).mono_us)) == ("boot-1", "trusted", [750_000, 1_000_000])

    def test_what_an_untrusted_clock_dated_is_dated_again_once_it_is_trusted(self, outbox: Outbox, clocks: Clocks) -> None:
        clocks.now = replace(clocks.now, state="untrusted")
        for number in range(3):
            outbox.append([result(str(number))])
        clocks.now = replace(clocks.now, state="trusted", at=AT + timedelta(days=400))
        outbox.append([result("3", clocks.now.at)])
        found = outbox.batches(9)
        assert [(batch.first, batch.count, batch.clock) for batch in found] == [(0, 3, "corrected"), (3, 1, "trusted")]
        assert {record.at for record in records_in(found)} == {AT + timedelta(days=400)}
        outbox.rewind()
        assert outbox.batches(9) == found

    def test_what_another_boot_left_untrusted_stays_so(self, outbox: Outbox, clocks: Clocks) -> None:
        clocks.now = replace(clocks.now, state="untrusted")
        outbox.append([result("1")])
        clocks.now = replace(clocks.now, state="trusted", boot="boot-2", at=AT + timedelta(days=400))
        (batch,) = outbox.batches(9)
        assert (batch.clock, batch.boot, records_in([batch])[0].at) == ("untrusted", "boot-1", AT)


class TestAcknowledge:
    def test_acknowledged_units_are_gone_for_good(self, path: Path) -> None:
        with closing(open_outbox(path)) as outbox:
            for number in range(3):
                outbox.append([sample(40_000), event(str(number))])
            outbox.batches(10)
            outbox.acknowledge(Lane.SAMPLES, [(0, 0), (2, 2)])
            outbox.rewind()
            assert [batch.first for batch in outbox.batches(10, lanes=[Lane.SAMPLES])] == [1]
            lane = outbox.ledger()[Lane.SAMPLES]
            assert (lane.produced, lane.acknowledged, lane.queued, lane.oldest) == (3, 2, 1, 1)
        with closing(open_outbox(path)) as outbox:
            assert [batch.first for batch in outbox.batches(10, lanes=[Lane.SAMPLES])] == [1]

    @pytest.mark.parametrize(
        ("ranges", "acknowledged"),
        [
            pytest.param([(0, 2**53)], 5, id="beyond the end"),
            pytest.param([(0, 4), (0, 4)], 5, id="twice"),
            pytest.param([(-5, 4)], 5, id="below zero"),
            pytest.param([(0, 2), (3, 4)], 0, id="in parts"),
            pytest.param([(4, 0)], 0, id="backwards"),
        ],
    )
    def test_odd_ranges_never_count_twice(self, outbox: Outbox, ranges: list[tuple[int, int]], acknowledged: int) -> None:
        outbox.append([result(str(n)) for n in range(5)])
        outbox.batches(10)
        outbox.acknowledge(Lane.TELEMETRY, ranges)
        assert outbox.ledger()[Lane.TELEMETRY].acknowledged == acknowledged
        assert balanced(outbox)

    def test_what_was_never_sent_cannot_be_acknowledged(self, outbox: Outbox) -> None:
        outbox.append([event()])
        outbox.acknowledge(Lane.EVENTS, [(0, 0)])
        assert outbox.ledger()[Lane.EVENTS].queued == 1

    def test_another_lane_is_not_touched(self, outbox: Outbox) -> None:
        outbox.append([event(), result("1")])
        outbox.batches(10)
        outbox.acknowledge(Lane.EVENTS, [(0, 0)])
        assert outbox.ledger()[Lane.TELEMETRY].queued == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "submit"]), st.lists(st.sampled_from(["event", "result", "sample", "huge"]), max_size=6)),
        st.tuples(st.just("send"), st.integers(0, 4)),
        st.tuples(st.just("rewind"), st.none()),
        st.tuples(st.just("ack"), st.tuples(st.sampled_from(list(Lane)), st.integers(-2, 12), st.integers(-2, 12))),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)

MADE: dict[str, Record] = {"event": event(), "result": result("1"), "sample": sample(1_500), "huge": sample(limits.MAX_RECORD_BYTES + 1)}


class Device:
    """An outbox, and a server that has stored what it was sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stored: dict[tuple[Lane, int], Record] = {}
        self._open()

    def take(self, step: str, value) -> None:
        if step == "restart":
            self.close()
            self._open()
        elif step in ("append", "submit"):
            getattr(self.outbox, step)([MADE[name] for name in value])
        elif step == "send":
            self._send(value)
        elif step == "rewind":
            self.outbox.rewind()
        elif all((value[0], number) in self.stored for number in range(value[1], value[2] + 1)):
            self.outbox.acknowledge(value[0], [(value[1], value[2])])

    def settle(self) -> None:
        self.outbox.append([])
        self.outbox.rewind()
        self._send(1_000)

    def close(self) -> None:
        self.outbox.close()

    def _open(self) -> None:
        self.outbox = open_outbox(self._path, ballast_bytes=0)

    def _send(self, most: int) -> None:
        for batch in self.outbox.batches(most):
            for number, record in zip(batch.sequences, records_in([batch]), strict=True):
                assert self.stored.setdefault((batch.lane, number), record) == record


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_the_ledger_balances_and_agrees_with_a_server_after_any_steps(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    device = Device(tmp_path_factory.mktemp("ledger") / "outbox.db")
    with closing(device):
        for step, value in steps:
            device.take(step, value)
            assert balanced(device.outbox)
        device.settle()
        for lane, state in device.outbox.ledger().items():
            assert state.produced == sum(1 for kept, _ in device.stored if kept == lane) + sum(state.dropped.values())


WRITER = """
import sys
from pathlib import Path
from fleet_contract.messages import Result
from tests.fakes.agent_outbox import Clocks, open_outbox
outbox, clocks = open_outbox(Path(sys.argv[1])), Clocks()
for n in range(100_000):
    outbox.append([Result(at=clocks.now.at, bundle="b", input_id=str(n), label=None, value=0.0, latency_us=1)], cursor=str(n))
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
"""


def test_every_commit_reaches_the_disk(path: Path) -> None:
    """WAL with synchronous=FULL (2): NORMAL loses committed rows at a power cut, which SIGKILL does not show."""
    with closing(database.connect(path)) as db:
        assert [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")] == ["wal", 2]


def test_what_append_returned_from_survives_sigkill(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        confirmed = [int(writer.stdout.readline()) for _ in range(50)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        confirmed = max([confirmed, *(int(line) for line in writer.stdout.read().split("\n") if line.strip())])
    with closing(open_outbox(path)) as outbox:
        kept = names(outbox.batches(10_000))
        assert kept[: confirmed + 1] == [str(n) for n in range(confirmed + 1)]
        assert outbox.cursor() == kept[-1]
        assert balanced(outbox)


def test_another_process_may_read_the_ledger(outbox: Outbox, path: Path) -> None:
    outbox.append([event()])
    epoch, ledger = database.read_ledger(path)
    assert (epoch, ledger) == (outbox.epoch, outbox.ledger())


def test_what_is_written_for_a_record_is_measured(outbox: Outbox) -> None:
    outbox.append([sample(10_000)])
    outbox.append([event()])
    disk = outbox.disk()
    assert 10_000 < disk.record_bytes < disk.written_bytes
    assert 10_000 < disk.queued_bytes < disk.quota_bytes


def test_the_fleet_knows_every_reason_of_a_drop() -> None:
    assert {MALFORMED, TOO_LARGE, DISK_FULL, QUOTA, THINNED, DISK_SLOW, DAMAGED} == DROP_REASONS
