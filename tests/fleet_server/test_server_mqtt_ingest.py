"""The ingest: what is acknowledged, when, and what one bad batch or a failing database does to the others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fleet_contract.messages import Ack, Batch, Lane
from fleet_contract.mqtt import Backoff
from fleet_server.mqtt import ingest as ingest_module
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.ingest import Arrival, Ingest, merge

PATIENCE_S = 10.0


def batch(first: int, records: int = 1, lane: Lane = Lane.TELEMETRY) -> Batch:
    return Batch("e1", lane, first, records, "none", 1, b"r", "b1")


def ack(first: int, last: int, lane: Lane = Lane.TELEMETRY, epoch: str = "e1") -> Ack:
    return Ack(epoch=epoch, lane=lane, ranges=[(first, last)])


class Database:
    """Stores batches in memory; fails as a test says."""

    def __init__(self) -> None:
        self.commits: list[list[tuple[str, Batch]]] = []
        self.fails: Callable[[list[tuple[str, Batch]]], Exception | None] = lambda _: None
        self.rejects: set[str] = set()
        self.open = threading.Event()
        self.open.set()

    def store(self, batches: list[tuple[str, Batch]]) -> list[tuple[str, Ack]]:
        assert self.open.wait(PATIENCE_S)
        error = self.fails(batches)
        if error:
            raise error
        self.commits.append(batches)
        taken = [(device, each) for device, each in batches if device not in self.rejects]
        return [(device, ack(each.first, each.last, each.lane)) for device, each in taken]


class Bench:
    """An ingest over a Database, and what came out of it in order."""

    def __init__(self) -> None:
        self.database, self.counts = Database(), Counts()
        self.log: list[tuple[str, object]] = []
        self._changed = threading.Condition()
        self.ingest = Ingest(self.database.store, self._sent, self.counts, Backoff(0.0, 0.0))

    def _note(self, kind: str, what: object) -> None:
        with self._changed:
            self.log.append((kind, what))
            self._changed.notify_all()

    def _sent(self, device: str, acknowledgement: Ack) -> None:
        self._note("ack", (device, acknowledgement.ranges))

    def offer(self, device: str, message: Batch, name: object = None) -> None:
        self.ingest.offer(Arrival(device, message, 100, lambda: self._note("puback", name if name is not None else device)))

    def wait_for(self, *expected: tuple[str, object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: all(each in self.log for each in expected), PATIENCE_S), self.log


@contextmanager
def running() -> Iterator[Bench]:
    bench = Bench()
    bench.ingest.start()
    try:
        yield bench
    finally:
        bench.database.open.set()
        bench.ingest.close()


def test_puback_and_ack_follow_the_commit() -> None:
    with running() as bench:
        bench.database.open.clear()
        bench.offer("cam-1", batch(0, 3))
        assert bench.log == []
        bench.database.open.set()
        bench.wait_for(("puback", "cam-1"), ("ack", ("cam-1", [(0, 2)])))


def test_messages_that_wait_are_committed_together() -> None:
    with running() as bench:
        bench.database.open.clear()
        for number in range(50):
            bench.offer("cam-1", batch(number), number)
        bench.database.open.set()
        bench.wait_for(*(("puback", number) for number in range(50)))
        assert len(bench.database.commits) <= 3


def test_rejected_batch_gets_its_puback_but_no_ack() -> None:
    with running() as bench:
        bench.database.rejects = {"stranger"}
        bench.offer("stranger", batch(0))
        bench.offer("cam-1", batch(0))
        bench.wait_for(("puback", "stranger"), ("ack", ("cam-1", [(0, 0)])))
        assert ("ack", ("stranger", [(0, 0)])) not in bench.log


def test_database_that_fails_for_a_while_loses_nothing() -> None:
    with running() as bench:
        left = iter([OSError("disk full"), OSError("disk full")])
        bench.database.fails = lambda _: next(left, None)
        bench.offer("cam-1", batch(0))
        bench.wait_for(("ack", ("cam-1", [(0, 0)])))


def test_batch_that_can_never_be_stored_holds_up_no_other() -> None:
    with running() as bench:
        bench.database.fails = lambda batches: ValueError("poison") if any(each.first == 13 for _, each in batches) else None
        bench.database.open.clear()
        for number in (12, 13, 14):
            bench.offer("cam-1", batch(number), number)
        bench.database.open.set()
        bench.wait_for(*(("puback", number) for number in (12, 13, 14)), ("ack", ("cam-1", [(12, 12)])), ("ack", ("cam-1", [(14, 14)])))
        assert bench.counts.snapshot()[Count.NOT_STORED] == 1


def test_full_queue_lets_messages_go_without_an_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "_MAX_WAITING", 2)
    bench = Bench()
    for number in range(5):
        bench.offer("cam-1", batch(number), number)
    assert bench.log == [("puback", 2), ("puback", 3), ("puback", 4)]
    assert bench.counts.snapshot()[Count.QUEUE_FULL] == 3


@pytest.mark.parametrize(
    ("acks", "merged"),
    [
        pytest.param([], [], id="none"),
        pytest.param([("a", ack(0, 4)), ("a", ack(5, 9))], [("a", [(0, 9)])], id="touching"),
        pytest.param([("a", ack(5, 9)), ("a", ack(0, 3))], [("a", [(0, 3), (5, 9)])], id="a-gap-and-out-of-order"),
        pytest.param([("a", ack(0, 9)), ("a", ack(2, 3))], [("a", [(0, 9)])], id="stored-twice"),
        pytest.param([("a", ack(0, 1)), ("b", ack(2, 3))], [("a", [(0, 1)]), ("b", [(2, 3)])], id="two-devices"),
        pytest.param([("a", ack(0, 1)), ("a", ack(2, 3, Lane.EVENTS))], [("a", [(2, 3)]), ("a", [(0, 1)])], id="two-lanes"),
        pytest.param([("a", ack(0, 1)), ("a", ack(2, 3, epoch="e2"))], [("a", [(0, 1)]), ("a", [(2, 3)])], id="two-epochs"),
    ],
)
def test_acks_are_merged(acks: list[tuple[str, Ack]], merged: list[tuple[str, list[tuple[int, int]]]]) -> None:
    assert [(device, each.ranges) for device, each in merge(acks)] == merged
