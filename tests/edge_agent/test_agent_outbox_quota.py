"""When more waits than may: who gives way, how, and what is said of it."""

import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.outbox import quota
from edge_agent.outbox.lanes import LANES, LaneState
from edge_agent.outbox.settings import OutboxSettings, Shares
from edge_agent.outbox.store import Outbox
from fleet_contract.limits import KIB, MIB
from fleet_contract.messages import Event, Lane, Record, Result, Sample
from tests.fakes.agent_outbox import Clocks, open_outbox, records_in

AT = Clocks().now.at
TEXT = Lane.TELEMETRY


def event(size: int) -> Event:
    return Event(at=AT, kind="test", detail={"text": os.urandom(size // 2).hex()})


def result(number: int, text_bytes: int) -> Result:
    """Always the same, so that it always takes as much."""
    text = random.Random(number).randbytes(text_bytes).hex()
    return Result(at=AT, bundle="b", input_id=f"{number}:{text}", label=None, value=0.0, latency_us=1)


def sample(size: int) -> Sample:
    return Sample(at=AT, bundle="b", campaign="c", input_id="i", media_type="image/png", data=os.urandom(size), label=None, value=0.0)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(open_outbox(tmp_path / "outbox.db", max_bytes=1 * MIB, ballast_bytes=0)) as opened:
        yield opened


def fill(outbox: Outbox, records: Iterator[Record], calls: int, each: int) -> None:
    for _ in range(calls):
        outbox.append(list(itertools.islice(records, each)))


def results(start: int = 0, text_bytes: int = 250) -> Iterator[Result]:
    return (result(number, text_bytes) for number in itertools.count(start))


def samples(size: int) -> Iterator[Sample]:
    return (sample(size) for _ in itertools.count())


def kept(outbox: Outbox) -> list[int]:
    """The numbers of the results that are left."""
    return [int(record.input_id.partition(":")[0]) for record in records_in(outbox.batches(10_000, lanes=[TEXT]))]


def lanes(**queued: int) -> list[LaneState]:
    return [LaneState(queued_bytes=queued.get(lane.value, 0)) for lane in LANES]


@pytest.mark.parametrize(
    ("queued", "giving"),
    [
        pytest.param({"events": 10, "telemetry": 10}, [], id="nobody is above its share"),
        pytest.param({"telemetry": 90, "samples": 30}, [("samples", 20), ("telemetry", 50)], id="the lowest lane first"),
        pytest.param({"events": 90, "samples": 5}, [("events", 70)], id="a lane within its share never"),
    ],
)
def test_lanes_above_their_shares_give_way(queued: dict[str, int], giving: list[tuple[str, int]]) -> None:
    found = quota.giving_way(lanes(**queued), 100, Shares())
    assert [(LANES[number].value, size) for number, size in found] == giving


@pytest.mark.parametrize(
    ("by_stride", "chosen"),
    [
        pytest.param({1: 100}, 1, id="whole records first"),
        pytest.param({1: 40, 2: 60}, 2, id="then those that take most"),
        pytest.param({1: 50, 2: 50}, 1, id="the finer of two"),
    ],
)
def test_the_stride_that_takes_most_is_thinned(by_stride: dict[int, int], chosen: int) -> None:
    assert quota.stride_to_thin(by_stride) == chosen


def test_shares_are_no_more_than_the_whole() -> None:
    with pytest.raises(ValueError, match=r"shares: they are 1\.5 together"):
        OutboxSettings(shares=Shares(events=0.8))


class TestTelemetry:
    def test_every_second_of_the_oldest_goes_first(self, outbox: Outbox) -> None:
        fill(outbox, results(), 100, 50)
        ledger = outbox.ledger()[TEXT]
        left = kept(outbox)
        assert set(ledger.dropped) == {"thinned"}
        assert (len(left), left[-1]) == (ledger.queued, 4_999)
        steps = [after - before for before, after in itertools.pairwise(left)]
        assert steps == sorted(steps, reverse=True), "the further back, the further apart"
        assert set(steps) == {1, 2} and left[0] == 0

    def test_weeks_without_a_network_leave_something_of_every_time(self, tmp_path: Path) -> None:
        with closing(open_outbox(tmp_path / "small.db", max_bytes=MIB // 2, ballast_bytes=0)) as outbox:
            fill(outbox, results(text_bytes=700), 120, 200)
            ledger, disk, left = outbox.ledger()[TEXT], outbox.disk(), kept(outbox)
        assert MIB // 2 - MIB // 128 - 64 * KIB < disk.queued_bytes <= MIB // 2, "no more goes than has to, and one unit"
        assert set(ledger.dropped) == {"thinned", "quota"}
        assert ledger.produced == ledger.queued + sum(ledger.dropped.values()) == 24_000
        assert ledger.oldest == left[0]
        steps = [after - before for before, after in itertools.pairwise(left)]
        assert steps == sorted(steps, reverse=True)
        assert set(steps) == {1, 2, 4, 8, 16, 32, 64}
        assert left[0] < 16_000, "the newest records alone would begin behind"

    def test_what_the_server_may_hold_is_never_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox.db"
        with closing(open_outbox(path, max_bytes=1 * MIB)) as outbox:
            fill(outbox, results(), 5, 100)
            first = kept(outbox)
        with closing(open_outbox(path, max_bytes=1 * MIB)) as outbox:
            fill(outbox, results(500), 50, 100)
            assert kept(outbox)[:500] == first


class TestLanes:
    def test_events_and_sketches_are_never_starved_by_telemetry(self, outbox: Outbox) -> None:
        fill(outbox, (event(2 * KIB) for _ in itertools.count()), 10, 5)
        fill(outbox, results(), 50, 100)
        ledger = outbox.ledger()
        assert ledger[Lane.EVENTS].dropped == {}
        assert ledger[TEXT].dropped

    def test_telemetry_is_not_starved_by_events(self, outbox: Outbox) -> None:
        fill(outbox, results(), 4, 100)
        fill(outbox, (event(2 * KIB) for _ in itertools.count()), 200, 5)
        ledger = outbox.ledger()
        assert ledger[TEXT].dropped == {}
        assert set(ledger[Lane.EVENTS].dropped) == {"quota"}

    def test_the_oldest_samples_go_first(self, outbox: Outbox) -> None:
        fill(outbox, samples(40_000), 40, 1)
        ledger = outbox.ledger()[Lane.SAMPLES]
        assert set(ledger.dropped) == {"quota"}
        assert ledger.oldest == ledger.dropped["quota"]
        assert [batch.first for batch in outbox.batches(100)] == list(range(ledger.oldest, 40))


def test_many_small_units_are_made_few_where_nobody_sends_them(outbox: Outbox) -> None:
    fill(outbox, results(), 150, 1)
    rows = outbox._shelf._db.execute("SELECT count(*) FROM unit").fetchone()[0]
    assert rows < 60
    assert kept(outbox) == list(range(150))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of eight megabytes."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a disk that can be filled")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def crowded(small_disk: Path) -> Iterator[tuple[Outbox, Path]]:
    """Some samples wait, and others have filled the disk with a file."""
    with closing(open_outbox(small_disk / "outbox.db", max_bytes=64 * MIB, ballast_bytes=2 * MIB, staged_bytes=64 * KIB)) as outbox:
        fill(outbox, samples(30_000), 40, 1)
        others = small_disk / "others"
        others.write_bytes(bytes(_free_bytes(small_disk)))
        yield outbox, others


def test_a_disk_that_others_have_filled_is_cleaned_with_the_ballast_and_all_goes_on(crowded: tuple[Outbox, Path]) -> None:
    outbox, others = crowded
    fill(outbox, samples(30_000), 10, 1)
    assert outbox.ledger()[Lane.SAMPLES].dropped == {}, "the ballast's room is used first"
    fill(outbox, samples(30_000), 140, 1)
    ledger = outbox.ledger()[Lane.SAMPLES]
    assert ledger.produced == ledger.queued + sum(ledger.dropped.values()) == 190
    assert set(ledger.dropped) == {"disk-full"}
    assert ledger.queued > 40
    others.unlink()
    outbox.append([sample(10)])
    assert others.with_name("outbox.ballast").stat().st_size == 2 * MIB


def test_what_can_be_read_again_waits_while_the_disk_is_full(crowded: tuple[Outbox, Path]) -> None:
    outbox, others = crowded
    taken = 0
    while outbox.submit([sample(30_000)], cursor=str(taken)) and taken < 200:
        taken += 1
        outbox.append([])
    assert outbox.ledger()[Lane.SAMPLES].dropped == {}
    assert (taken < 200, outbox.cursor()) == (True, str(taken - 1))
    others.unlink()
    outbox.append([])
    assert outbox.submit([sample(30_000)], cursor="later")


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
