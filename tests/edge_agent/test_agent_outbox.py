"""The outbox keeps what it took, forgets what was acknowledged, and its numbers always add up."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import Retry
from edge_agent.link import tables
from edge_agent.link.outbox import QUOTA, TOO_LARGE, Outbox
from fleet_contract import limits
from fleet_contract.messages import Event, Lane, Record, Result, Sample, decode_record, encode

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(text: str = "x") -> Event:
    return Event(at=AT, kind="test", detail={"text": text})


def result(name: str) -> Result:
    return Result(at=AT, bundle="b" * 64, input_id=name, label="1", value=0.5, latency_us=10)


def sample(size: int) -> Sample:
    return Sample(at=AT, bundle="b" * 64, campaign="c", input_id="i", media_type="image/png", data=bytes(size), label="1", value=0.5)


def open_outbox(folder: Path, **options: int) -> Outbox:
    epochs = (f"epoch-{n}" for n in itertools.count())
    return Outbox(folder / "outbox.db", new_epoch=lambda: next(epochs), **options)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(open_outbox(tmp_path)) as opened:
        yield opened


def balanced(outbox: Outbox) -> bool:
    return all(lane.produced == lane.acknowledged + lane.queued + sum(lane.dropped.values()) for lane in outbox.ledger().values())


def names(outbox: Outbox, max_batches: int = 100) -> list[str]:
    return [decode_record(body).input_id for batch in outbox.batches(max_batches) for body in batch.records]


class TestAppend:
    def test_records_cursor_and_marks_survive_a_new_process(self, tmp_path: Path) -> None:
        with closing(open_outbox(tmp_path)) as first:
            first.append([result("1")], cursor="frame-1", marks={"campaign": "c1"})
            epoch = first.epoch
        with closing(open_outbox(tmp_path)) as second:
            assert (second.epoch, second.cursor(), second.mark("campaign"), names(second)) == (epoch, "frame-1", "c1", ["1"])

    def test_nothing_was_ever_marked(self, outbox: Outbox) -> None:
        assert (outbox.cursor(), outbox.mark("campaign")) == (None, None)

    def test_no_records_may_still_move_the_cursor(self, outbox: Outbox) -> None:
        outbox.append([], cursor="7")
        assert outbox.cursor() == "7"
        assert outbox.batches(10) == []

    def test_a_record_that_is_too_large_is_counted_and_the_others_are_kept(self, outbox: Outbox) -> None:
        outbox.append([sample(limits.MAX_RECORD_BYTES + 1), sample(10)])
        lane = outbox.ledger()[Lane.SAMPLES]
        assert (lane.produced, lane.queued, lane.dropped) == (2, 1, {TOO_LARGE: 1})

    def test_a_failed_append_leaves_nothing_behind(self, outbox: Outbox) -> None:
        with pytest.raises(KeyError):
            outbox.append([result("1"), "no record"], cursor="9")  # type: ignore[list-item]
        assert outbox.ledger()[Lane.TELEMETRY].produced == 0
        assert outbox.cursor() is None
        outbox.append([result("2")])
        assert names(outbox) == ["2"]

    def test_a_full_disk_is_retried_later(self, outbox: Outbox) -> None:
        outbox._db.execute(f"PRAGMA max_page_count={outbox._db.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(Retry, match="full"):
            outbox.append([sample(40_000)], cursor="lost")
        assert outbox.cursor() is None
        assert balanced(outbox)


class TestBatches:
    def test_highest_lane_first_and_each_lane_in_order(self, outbox: Outbox) -> None:
        outbox.append([sample(5), result("1"), event(), result("2")])
        assert [(b.lane, b.first, len(b.records)) for b in outbox.batches(10)] == [
            (Lane.EVENTS, 0, 1),
            (Lane.TELEMETRY, 0, 2),
            (Lane.SAMPLES, 0, 1),
        ]

    def test_what_was_sent_is_sent_once_until_a_rewind(self, outbox: Outbox) -> None:
        outbox.append([result("1"), result("2")])
        assert names(outbox) == ["1", "2"]
        outbox.append([result("3")])
        assert names(outbox) == ["3"]
        outbox.rewind()
        assert names(outbox) == ["1", "2", "3"]

    def test_no_batch_breaks_a_limit(self, outbox: Outbox) -> None:
        outbox.append([result(str(n)) for n in range(limits.MAX_BATCH_RECORDS + 1)] + [sample(40_000)] * 3)
        batches = outbox.batches(100)
        assert all(len(batch.records) <= limits.MAX_BATCH_RECORDS and encode(batch) for batch in batches)
        assert sum(len(batch.records) for batch in batches) == limits.MAX_BATCH_RECORDS + 4

    def test_a_gap_of_dropped_records_ends_a_batch(self, outbox: Outbox) -> None:
        outbox.append([sample(1), sample(limits.MAX_RECORD_BYTES + 1), sample(2)])
        assert [(batch.first, len(batch.records)) for batch in outbox.batches(10)] == [(0, 1), (2, 1)]

    def test_at_most_as_many_as_asked_for(self, outbox: Outbox) -> None:
        outbox.append([sample(40_000)] * 5)
        assert len(outbox.batches(2)) == 2
        assert [batch.first for batch in outbox.batches(10)] == [2, 3, 4]


class TestAcknowledge:
    def test_acknowledged_records_are_gone_for_good(self, outbox: Outbox) -> None:
        outbox.append([result(str(n)) for n in range(5)])
        outbox.batches(10)
        outbox.acknowledge(Lane.TELEMETRY, [(0, 1), (3, 3)])
        outbox.rewind()
        assert names(outbox) == ["2", "4"]
        lane = outbox.ledger()[Lane.TELEMETRY]
        assert (lane.produced, lane.acknowledged, lane.queued) == (5, 3, 2)

    @pytest.mark.parametrize(
        "ranges",
        [
            pytest.param([(0, 2**40)], id="beyond the end"),
            pytest.param([(0, 4), (0, 4)], id="twice"),
            pytest.param([(-5, 4)], id="below zero"),
            pytest.param([(0, 2), (2, 4)], id="overlapping"),
        ],
    )
    def test_odd_ranges_never_count_twice(self, outbox: Outbox, ranges: list[tuple[int, int]]) -> None:
        outbox.append([result(str(n)) for n in range(5)])
        outbox.batches(10)
        outbox.acknowledge(Lane.TELEMETRY, ranges)
        assert outbox.ledger()[Lane.TELEMETRY].acknowledged == 5
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


class TestQuota:
    def test_the_lowest_lane_gives_way_first(self, tmp_path: Path) -> None:
        with closing(open_outbox(tmp_path, max_bytes=10_000)) as outbox:
            outbox.append([event(), sample(4_000), sample(4_000)])
            outbox.append([result(str(n)) for n in range(20)])
            ledger = outbox.ledger()
            assert ledger[Lane.SAMPLES].dropped == {QUOTA: 1}
            assert ledger[Lane.TELEMETRY].dropped == ledger[Lane.EVENTS].dropped == {}

    def test_the_oldest_of_a_lane_goes_first(self, tmp_path: Path) -> None:
        with closing(open_outbox(tmp_path, max_bytes=2_000)) as outbox:
            for n in range(50):
                outbox.append([result(str(n))])
            kept = names(outbox)
            assert kept == [str(n) for n in range(50 - len(kept), 50)]
            assert outbox.ledger()[Lane.TELEMETRY].dropped == {QUOTA: 50 - len(kept)}

    def test_what_the_server_may_hold_is_never_counted_as_dropped(self, tmp_path: Path) -> None:
        with closing(open_outbox(tmp_path, max_bytes=10_000)) as outbox:
            outbox.append([sample(4_000), sample(4_000)])
            outbox.batches(10)
            outbox.append([sample(4_000)])
            assert outbox.ledger()[Lane.SAMPLES].dropped == {QUOTA: 1}
            outbox.rewind()
            assert [batch.first for batch in outbox.batches(10)] == [0]

    def test_a_restart_remembers_what_the_server_may_hold(self, tmp_path: Path) -> None:
        with closing(open_outbox(tmp_path, max_bytes=10_000)) as outbox:
            outbox.append([sample(4_000), sample(4_000)])
            outbox.batches(10)
        with closing(open_outbox(tmp_path, max_bytes=10_000)) as outbox:
            outbox.append([sample(4_000)])
            assert outbox.ledger()[Lane.SAMPLES].queued == 2
            outbox.acknowledge(Lane.SAMPLES, [(0, 1)])
            assert outbox.ledger()[Lane.SAMPLES].acknowledged == 2


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.sampled_from(["event", "result", "sample", "huge"]), max_size=6)),
        st.tuples(st.just("send"), st.integers(0, 4)),
        st.tuples(st.just("rewind"), st.none()),
        st.tuples(st.just("ack"), st.tuples(st.sampled_from(list(Lane)), st.integers(-2, 12), st.integers(-2, 12))),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)

MADE: dict[str, Record] = {
    "event": event(),
    "result": result("1"),
    "sample": sample(1_500),
    "huge": sample(limits.MAX_RECORD_BYTES + 1),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_the_ledger_balances_and_agrees_with_a_server_after_any_steps(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    outbox = open_outbox(folder, max_bytes=4_000)
    stored: set[tuple[Lane, int]] = set()
    try:
        for step, value in steps:
            if step == "restart":
                outbox.close()
                outbox = open_outbox(folder, max_bytes=4_000)
            elif step == "append":
                outbox.append([MADE[name] for name in value])
            elif step == "send":
                stored |= {(b.lane, b.first + n) for b in outbox.batches(value) for n in range(len(b.records))}
            elif step == "rewind":
                outbox.rewind()
            elif (value[0], value[1]) in stored:
                outbox.acknowledge(value[0], [(value[1], value[1])])
            assert balanced(outbox)
        outbox.rewind()
        stored |= {(b.lane, b.first + n) for b in outbox.batches(1_000) for n in range(len(b.records))}
        for lane, state in outbox.ledger().items():
            assert state.produced == sum(1 for kept, _ in stored if kept == lane) + sum(state.dropped.values())
    finally:
        outbox.close()


class TestDamage:
    def test_a_damaged_database_is_set_aside_and_a_new_epoch_begins(self, tmp_path: Path) -> None:
        (tmp_path / "outbox.db").write_bytes(b"not a database" * 1_000)
        with closing(open_outbox(tmp_path)) as outbox:
            assert outbox.was_damaged
            outbox.append([event()])
        assert (tmp_path / "outbox.db.damaged").read_bytes().startswith(b"not a database")

    def test_a_sound_database_is_not(self, outbox: Outbox) -> None:
        assert not outbox.was_damaged

    def test_its_file_is_private(self, outbox: Outbox, tmp_path: Path) -> None:
        assert (tmp_path / "outbox.db").stat().st_mode & 0o777 == 0o600


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from edge_agent.link.outbox import Outbox
from fleet_contract.messages import Result
outbox = Outbox(Path(sys.argv[1]), new_epoch=lambda: "epoch")
for n in range(100_000):
    outbox.append([Result(at=datetime.now(UTC), bundle="b", input_id=str(n), label=None, value=0.0, latency_us=1)], cursor=str(n))
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
"""


def test_every_commit_reaches_the_disk(outbox: Outbox) -> None:
    """WAL with synchronous=FULL (2): NORMAL loses committed rows at a power cut, which SIGKILL does not show."""
    pragmas = {name: outbox._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_what_append_returned_from_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        confirmed = [int(writer.stdout.readline()) for _ in range(50)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        confirmed = max([confirmed, *(int(line) for line in writer.stdout.read().split("\n") if line.strip())])
    with closing(open_outbox(tmp_path)) as outbox:
        kept = names(outbox, 10_000)
        assert kept[: confirmed + 1] == [str(n) for n in range(confirmed + 1)]
        assert outbox.cursor() == kept[-1]
        assert balanced(outbox)


def test_another_process_may_read_the_ledger(outbox: Outbox, tmp_path: Path) -> None:
    outbox.append([event()])
    epoch, lanes = tables.read_ledger(tmp_path / "outbox.db")
    assert (epoch, lanes[0].queued) == (outbox.epoch, 1)
