"""The rules of the ledger: what a report proves when it is held against what is stored; and of floods, twins and clocks."""

from datetime import timedelta

import msgspec
import pytest

from fleet_contract import batches
from fleet_contract.limits import MAX_CLOCK_SKEW_S
from fleet_contract.messages import Batch, Event, Lane
from fleet_server.domain import clocks, flood
from fleet_server.domain.coverage import Coverage, Run
from fleet_server.domain.flood import FORGIVEN_AFTER, MOST_BREAKS, Meter, Rules, sentence
from fleet_server.domain.ledger import Report, judge
from fleet_server.domain.twins import Memory
from tests.fakes.server_world import START


def covering(*ranges: tuple[int, int]) -> Coverage:
    return Coverage(tuple(Run(*each) for each in ranges))


@pytest.mark.parametrize(
    ("report", "stored", "lost", "surplus", "first_missing"),
    [
        pytest.param(Report(10, 10, 0, 0, 10), [(0, 9)], 0, 0, None, id="all is stored"),
        pytest.param(Report(10, 6, 4, 0, 6), [(0, 5)], 0, 0, None, id="some wait on the device"),
        pytest.param(Report(10, 6, 4, 0, 6), [(0, 7)], 0, 0, None, id="an acknowledgement is on its way"),
        pytest.param(Report(10, 10, 0, 0, 10), [(0, 99)], 0, 0, None, id="more came since the report"),
        pytest.param(Report(10, 7, 0, 3, 10), [(0, 3), (7, 9)], 0, 0, None, id="three were dropped"),
        pytest.param(Report(10, 4, 3, 3, 4), [(0, 3)], 0, 0, None, id="dropped from among those that wait"),
        pytest.param(Report(10, 10, 0, 0, 10), [(0, 3), (6, 9)], 2, 0, 4, id="two are lost"),
        pytest.param(Report(10, 10, 0, 0, 10), [(0, 3), (6, 99)], 2, 0, 4, id="new ones do not hide the lost"),
        pytest.param(Report(10, 9, 0, 1, 10), [(0, 3), (6, 9)], 1, 0, 4, id="one was dropped and one is lost"),
        pytest.param(Report(10, 8, 2, 0, 8), [(0, 3), (6, 9)], 2, 0, 4, id="lost below what waits, and what waits is stored"),
        pytest.param(Report(10, 8, 2, 0, None), [(0, 3), (6, 7)], 2, 0, 4, id="an agent that does not tell the oldest"),
        pytest.param(Report(10, 10, 0, 0, 10), [], 10, 0, 0, id="nothing is stored"),
        pytest.param(Report(10, 8, 0, 2, 10), [(0, 9)], 0, 2, None, id="stored, and dropped too"),
        pytest.param(Report(10, 8, 0, 2, 10, 2), [(0, 9)], 0, 0, None, id="stored, and damaged on the device later"),
        pytest.param(Report(10, 8, 0, 2, 10, 2), [(0, 7)], 0, 0, None, id="damaged on the device before it was stored"),
        pytest.param(Report(10, 7, 0, 3, 10, 2), [(0, 9)], 0, 1, None, id="stored, and dropped beside what was damaged"),
        pytest.param(Report(0, 0, 0, 0, 0), [], 0, 0, None, id="nothing was made"),
    ],
)
def test_a_report_is_judged_by_number(
    report: Report, stored: list[tuple[int, int]], lost: int, surplus: int, first_missing: int | None
) -> None:
    numbers = covering(*stored)
    found = judge(report, numbers, numbers.below(1 << 40))
    assert (found.lost, found.surplus, found.first_missing) == (lost, surplus, first_missing)
    assert found.balanced is (lost == surplus == 0)


def test_what_is_settled_is_not_asked_for_again() -> None:
    before = judge(Report(10, 7, 0, 3, 10), covering((0, 3), (7, 9)), 7)
    assert before.settled == 10
    after = judge(Report(20, 15, 0, 3, 20), covering((0, 3), (7, 12), (15, 19)), 15, settled=before.settled)
    assert (after.lost, after.first_missing, after.settled) == (2, 13, 10)


def test_holes_that_were_closed_are_still_counted() -> None:
    closed = covering((0, 3), (7, 12), (15, 19)).closed_below(10)
    assert judge(Report(20, 15, 0, 3, 20), closed, 15, settled=10).lost == 2


def test_thinned_batches_leave_what_was_dropped() -> None:
    assert judge(Report(10, 5, 0, 5, 10), Coverage((Run(0, 8, 2),)), 5).balanced


def test_what_may_be_stored_or_not_is_settled_either_way() -> None:
    assert [judge(Report(10, 8, 0, 2, 10, 2), covering(stored), stored[1] + 1).settled for stored in [(0, 9), (0, 7)]] == [10, 10]


def test_a_device_that_forgot_what_it_had_made_is_seen() -> None:
    assert judge(Report(10, 10, 0, 0, 10), covering((0, 19)), 20, beyond=10).surplus == 10


def test_counts_that_do_not_add_up_among_themselves_are_no_balance() -> None:
    found = judge(Report(10, 5, 0, 0, 10), covering((0, 9)), 10)
    assert (found.misreported, found.balanced) == (True, False)


RULES = Rules(messages_per_s=8, bytes_per_s=1_024, patience_s=2)


@pytest.mark.parametrize(
    ("every_s", "size", "floods"),
    [
        pytest.param(0.125, 10, False, id="at the rate"),
        pytest.param(0.1, 10, True, id="above the rate"),
        pytest.param(1.0, 900, False, id="large ones, rarely"),
        pytest.param(1.0, 1_100, True, id="too many bytes"),
    ],
)
def test_a_flood_is_more_than_the_rate_for_longer_than_the_patience(every_s: float, size: int, floods: bool) -> None:
    meter = Meter(RULES)
    taken = [meter.take("cam", size=size, now_s=5.0 + at * every_s) for at in range(400)]
    assert (not all(taken)) is floods
    assert all(taken[:10])


def test_a_burst_is_taken_and_others_do_not_suffer() -> None:
    meter = Meter(RULES)
    assert [meter.take("cam", size=1, now_s=0.0) for _ in range(17)] == [True] * 16 + [False]
    assert meter.take("other", size=1, now_s=0.0)
    meter.pardon("cam")
    assert meter.take("cam", size=1, now_s=0.0)


def test_the_meter_forgets_those_who_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "_MAX_DEVICES", 3)
    meter = Meter(RULES)
    for at in range(100):
        meter.take(f"cam-{at}", size=1, now_s=float(at))
    assert len(meter._messages) <= 5


def test_each_of_two_workers_sees_half() -> None:
    assert RULES.share(2) == Rules(messages_per_s=4, bytes_per_s=512, patience_s=2)


def test_breaks_grow_and_end_in_quarantine() -> None:
    times, until, breaks = 0, None, []
    now = START
    while True:
        given = sentence(times, until, now)
        if given.until is None:
            break
        breaks.append((given.until - now).total_seconds())
        times, until, now = given.times, given.until, given.until + timedelta(minutes=1)
    assert breaks == [60, 120, 240, 480, 960]
    assert times == MOST_BREAKS


def test_an_old_flood_is_forgiven() -> None:
    assert sentence(MOST_BREAKS, START, START + FORGIVEN_AFTER + timedelta(seconds=1)).times == 1


def batch(first: int, count: int, boot: str = "b1", kind: str = "x") -> Batch:
    return msgspec.structs.replace(batches.make("e1", Lane.EVENTS, first, [Event(at=START, kind=kind)] * count), boot=boot)


@pytest.mark.parametrize(
    ("sent", "last_is_wrong"),
    [
        pytest.param([batch(0, 5), batch(5, 5), batch(0, 5)], False, id="sent again"),
        pytest.param([batch(0, 5), batch(0, 5, kind="y")], True, id="the same numbers, other content"),
        pytest.param([batch(0, 5), batch(0, 6)], True, id="the same first number, more of them"),
        pytest.param([batch(5, 5, "b2"), batch(10, 5, "b2"), batch(0, 5, "b1")], False, id="the newest first, an earlier run behind"),
        pytest.param([batch(0, 5, "b1"), batch(5, 5, "b2"), batch(10, 5, "b1")], True, id="two runs give numbers by turns"),
        pytest.param([batch(0, 5, "b1"), batch(3, 5, "b2")], True, id="two runs give the same numbers"),
    ],
)
def test_twins_are_seen_by_what_they_send(sent: list[Batch], last_is_wrong: bool) -> None:
    memory = Memory()
    *before, last = [memory.see("cam", each) for each in sent]
    assert before == [None] * len(before)
    assert (last is not None) is last_is_wrong


def test_the_memory_of_batches_is_bounded_and_accuses_nobody() -> None:
    memory = Memory(max_batches=2, max_streams=1)
    for first in range(0, 50, 5):
        assert memory.see(f"cam-{first}", batch(first, 5)) is None
    assert (len(memory._digests), len(memory._boots)) == (2, 1)


@pytest.mark.parametrize(
    ("before_s", "now_s", "off"),
    [
        pytest.param(None, 1e6, False, id="the first measurement"),
        pytest.param(0.0, -1e6, False, id="a status that the broker had kept"),
        pytest.param(-1e6, -1e6, True, id="behind, twice"),
        pytest.param(1e6, 2e6, True, id="ahead, twice"),
        pytest.param(-1e6, 1e6, False, id="kept, and then ahead"),
        pytest.param(MAX_CLOCK_SKEW_S, MAX_CLOCK_SKEW_S, False, id="just within"),
    ],
)
def test_a_clock_is_off_when_it_is_so_twice(before_s: float | None, now_s: float, off: bool) -> None:
    assert clocks.is_off(before_s, now_s) is off
