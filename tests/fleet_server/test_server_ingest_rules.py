"""Of an ingest worker, what needs no broker: how acknowledgements are merged, when commits wait, and what a failing inbox does."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from fleet_contract import batches, messages, topics
from fleet_contract.backoff import Backoff
from fleet_contract.messages import Ack, Event, Lane
from fleet_contract.mqtt_packets import Publish
from fleet_contract.topics import Up
from fleet_server.inbox.port import Backlog
from fleet_server.inbox.segment import Arrival
from fleet_server.ingest.acks import Stored, merge
from fleet_server.ingest.committer import Committer
from fleet_server.ingest.intake import Group, Intake
from fleet_server.ingest.pace import Bounds, wait_s
from fleet_server.ingest.roster import Roster

PATIENCE_S = 10.0
BOUNDS = Bounds(backlog_bytes=1_000, backlog_s=10.0)


def stored(first: int, last: int, device: str = "pi-1", epoch: str = "e1", lane: Lane = Lane.TELEMETRY) -> Stored:
    return Stored(device, epoch, lane, first, last)


@pytest.mark.parametrize(
    ("batches", "acks"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([stored(0, 4), stored(5, 9)], [("pi-1", [(0, 9)])], id="ranges that touch"),
        pytest.param([stored(8, 9), stored(0, 4)], [("pi-1", [(0, 4), (8, 9)])], id="a gap, out of order"),
        pytest.param([stored(0, 9), stored(2, 3)], [("pi-1", [(0, 9)])], id="one within another"),
        pytest.param([stored(0, 1), stored(0, 1, "pi-2")], [("pi-1", [(0, 1)]), ("pi-2", [(0, 1)])], id="two devices"),
    ],
)
def test_one_ack_for_each_stream(batches: list[Stored], acks: list[tuple[str, list]]) -> None:
    assert merge(batches) == [(device, Ack("e1", Lane.TELEMETRY, ranges)) for device, ranges in acks]


def test_epochs_and_lanes_are_told_apart() -> None:
    found = merge([stored(0, 1), stored(0, 1, epoch="e2"), stored(0, 1, lane=Lane.EVENTS)])
    assert [(ack.epoch, ack.lane) for _, ack in found] == [("e1", Lane.TELEMETRY), ("e2", Lane.TELEMETRY), ("e1", Lane.EVENTS)]


@pytest.mark.parametrize(
    ("waiting_bytes", "age_s", "expected"),
    [
        pytest.param(0, None, 0.0, id="empty"),
        pytest.param(1_000, 1.0, 0.0, id="at the bound"),
        pytest.param(1_500, 1.0, 0.5, id="half above in bytes"),
        pytest.param(10, 12.5, 0.25, id="a quarter above in age"),
        pytest.param(2_000, 1.0, None, id="at twice the bound"),
        pytest.param(10, 1_000.0, None, id="as old as can be"),
    ],
)
def test_commits_wait_for_the_compactor(waiting_bytes: int, age_s: float | None, expected: float | None) -> None:
    now_us = 10**15
    oldest = None if age_s is None else now_us - int(age_s * 1e6)
    assert wait_s(Backlog(1, 1, waiting_bytes, oldest), BOUNDS, now_us) == pytest.approx(expected)


WORDLESS = OperationalError("INSERT", {}, Exception(""))
"""As a driver tells of a connection that broke."""


class Memory:
    """An inbox that keeps what it gets, after it has failed as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.commits = failures, []

    def append(self, arrivals: Sequence[Arrival], at_us: int) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError("the database is away") if self.failures % 2 else WORDLESS
        self.commits.append(list(arrivals))
        return len(self.commits)


def group(number: int) -> Group:
    arrival = Arrival("pi-1", 0, b"%d" % number)
    return Group(0.0, [number], [arrival], [stored(number, number)], len(arrival.payload), 1)


class Running:
    """A committer, and what it says is committed."""

    def __init__(self, inbox: Memory, waits: Sequence[float | None] = ()) -> None:
        self._waits, self.slowed_s, self.woken = list(waits), 0.0, threading.Semaphore(0)
        self.committer = Committer(inbox, self._wait_s, self.woken.release, self._slowed, Backoff(0.0, 0.0))
        self.committer.start()

    def _wait_s(self) -> float | None:
        return self._waits.pop(0) if self._waits else 0.0

    def _slowed(self, seconds: float) -> None:
        self.slowed_s += seconds

    def next(self) -> list[int]:
        assert self.woken.acquire(timeout=PATIENCE_S), "nothing was committed"
        return [number for _, each in self.committer.committed() for number in each.numbers]


def test_what_comes_is_committed_in_order() -> None:
    inbox = Memory()
    running = Running(inbox)
    for number in range(3):
        running.committer.put("line", group(number))
    found: list[int] = []
    while len(found) < 3:
        found += running.next()
    running.committer.close()
    assert found == [0, 1, 2]
    assert [arrival.payload for commit in inbox.commits for arrival in commit] == [b"0", b"1", b"2"]
    assert running.committer.waiting_bytes == 0


def test_an_inbox_that_fails_is_asked_again_and_nothing_is_lost() -> None:
    inbox = Memory(failures=3)
    running = Running(inbox)
    running.committer.put("line", group(1))
    assert running.next() == [1]
    running.committer.close()
    assert len(inbox.commits) == 1


def test_a_full_inbox_slows_what_is_acknowledged() -> None:
    running = Running(Memory(), waits=[None, 0.01])
    running.committer.put("line", group(1))
    assert running.next() == [1]
    running.committer.close()
    assert running.slowed_s == pytest.approx(0.21)


def test_what_an_inbox_never_took_stays_unacknowledged() -> None:
    running = Running(Memory(failures=10**9))
    running.committer.put("line", group(1))
    running.committer.close()
    assert running.committer.committed() == []


def test_who_is_asked_for_and_unknown_is_looked_up_at_the_next_renewal(sqlite_engine: Engine) -> None:
    roster, now = Roster(sqlite_engine), datetime(2026, 1, 2, tzinfo=UTC)
    assert roster.renew(now) is False
    assert roster.may("pi-1") is None
    assert roster.renew(now) is True
    assert (roster.may("pi-1"), roster.renew(now)) == (False, False)


def test_a_bomb_counts_as_what_it_becomes() -> None:
    event = Event(datetime(2026, 1, 2, tzinfo=UTC), "x", {"text": "a" * 1_900})
    batch = batches.make("e1", Lane.EVENTS, 0, [event] * 100)
    sent = Publish(topics.up("pi-1", Up.RECORDS), messages.encode(batch), packet_id=1)
    sizes: list[int] = []

    def floods(_device: str, size: int) -> bool:
        return bool(sizes.append(size))

    Intake(lambda _: True, floods, lambda *_: None).sort([sent], 0.0)
    assert sizes == [batch.length]
    assert len(sent.payload) < batch.length / 50
