"""The compactor: empties the inbox, keeps the lake in order, forgets deleted devices."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Connection, func, select, update

from fleet_contract import batches, messages
from fleet_contract.instants import microseconds
from fleet_contract.messages import Batch, Event, Lane, Result, Sample
from fleet_server.errors import Conflict
from fleet_server.inbox import sql
from fleet_server.inbox.segment import Arrival
from fleet_server.inbox.sql import SqlInbox
from fleet_server.lake import catalogue, compactor, damaged, keeping, merging, turn
from fleet_server.lake.compactor import Compactor
from fleet_server.lake.keeping import Keeper, Retention
from fleet_server.lake.turn import Lake
from fleet_server.services import deletion, measurements, streams
from fleet_server.services.figures import CompactorFigures
from fleet_server.tables.database import reading, writing
from fleet_server.tables.lake import LakeState
from fleet_server.tables.minutes import Minute
from tests.fakes.server_world import START, World

SHA = "a" * 64


def a_batch(first: int, count: int = 2, at=START) -> Batch:
    results = [Result(at, SHA, str(first + number), "yes", 0.5, 10) for number in range(count)]
    return batches.make("e1", Lane.TELEMETRY, first, results)


class Server:
    """An inbox, a lake and what lies between them."""

    def __init__(self, world: World, inbox: SqlInbox, retention: Retention) -> None:
        self.world, self.inbox = world, inbox
        self.lake = Lake(world.fleet.home, world.engine)
        self.ticks = 0.0
        self.keeper = Keeper(self.lake, retention, world.clock, lambda: self.ticks)
        self.compactor = Compactor(self.lake, inbox, self.keeper, world.clock)

    def send(self, *some: Batch, device: str = "cam-1") -> None:
        at_us = microseconds(self.world.clock())
        self.inbox.append([Arrival(device, at_us, messages.encode(batch)) for batch in some], at_us)

    def keep(self) -> CompactorFigures:
        self.ticks += 60
        done = CompactorFigures()
        self.keeper.keep(done)
        return done

    def files(self) -> list[str]:
        with reading(self.world.engine) as connection:
            return [row.path for row in catalogue.listed(connection)]

    def ids(self) -> list[tuple[str, str]]:
        """Device and input of every inference in files that count."""
        found = [row for path in self.files() for row in pq.read_table(self.lake.root / path, partitioning=None).to_pylist()]
        return sorted((row["device"], row["input_id"]) for row in found)

    def lying(self) -> list[str]:
        return sorted(str(path.relative_to(self.lake.root)) for path in self.lake.root.rglob("*.parquet"))


@pytest.fixture
def retention() -> Retention:
    return Retention()


@pytest.fixture
def server(world: World, retention: Retention) -> Iterator[Server]:
    for device in ("cam-1", "cam-2"):
        world.enrol(device)
    with ExitStack() as stack:
        inbox = sql.open_beside(world.engine, world.fleet.home)
        if inbox.engine is not world.engine:
            stack.callback(inbox.engine.dispose)
        stack.enter_context(compactor.claimed(world.fleet.lake))
        yield Server(world, inbox, retention)


def test_what_waits_is_taken_in_and_let_go(server: Server) -> None:
    server.send(a_batch(0), a_batch(2))
    server.send(a_batch(0), device="cam-2")
    assert server.compactor.turn() is False
    assert server.ids() == [("cam-1", str(at)) for at in range(4)] + [("cam-2", "0"), ("cam-2", "1")]
    assert server.inbox.backlog().segments == 0
    told = server.compactor.figures
    assert (told.segments, told.rows, told.duplicates) == (2, 6, 0)


def test_it_says_until_when_everything_is_stored(server: Server) -> None:
    server.send(a_batch(0))
    began = server.world.clock()
    server.compactor.turn()
    with reading(server.world.engine) as connection:
        assert connection.execute(select(LakeState.caught_up_at)).scalar_one() == began


def test_killed_before_the_inbox_is_told_it_takes_nothing_twice(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.send(a_batch(0))

    def die(_through: int) -> None:
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(server.inbox, "forget", die)
        with pytest.raises(SystemExit):
            server.compactor.turn()
    server.send(a_batch(2))
    server.compactor.turn()
    assert (server.ids(), server.inbox.backlog().segments) == ([("cam-1", str(at)) for at in range(4)], 0)


def test_an_inbox_that_was_lost_begins_where_the_lake_has_come_to(server: Server) -> None:
    for first in (0, 2, 4):
        server.send(a_batch(first))
        server.compactor.turn()
    with ExitStack() as stack:
        server.inbox.engine.dispose()
        for path in server.world.fleet.home.glob("inbox.db*"):
            path.unlink()
        server.inbox = sql.open_beside(server.world.engine, server.world.fleet.home)
        stack.callback(server.inbox.engine.dispose)
        server.send(a_batch(6))
        Compactor(server.lake, server.inbox, server.keeper, server.world.clock).turn()
        assert (len(server.ids()), server.inbox.backlog().segments) == (8, 0)


def test_another_compactor_is_refused(server: Server) -> None:
    server.send(a_batch(0))
    with pytest.raises(Conflict), compactor.claimed(server.lake.root):
        pass
    segments = server.inbox.read(0, 1 << 20)
    server.compactor.turn()
    with pytest.raises(Conflict):
        turn.take(server.lake, segments, 0, START, twins=server.world.twins)
    assert len(server.ids()) == 2


def test_a_turn_that_failed_is_repeated_and_leaves_no_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, failed = threading.Event(), []
    save = catalogue.add

    def fail_once(*given: object) -> None:
        if not failed:
            failed.append(True)
            server.send(a_batch(2))
            raise OSError("the disk is full")
        save(*given)
        stop.set()

    monkeypatch.setattr(catalogue, "add", fail_once)
    server.send(a_batch(0))
    server.compactor.run(stop, compactor.Backoff(0.0, 0.0))
    assert (server.ids(), server.lying()) == ([("cam-1", str(at)) for at in range(4)], server.files())


def test_a_message_that_nobody_foresaw_holds_up_no_other(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, take_in = threading.Event(), measurements.note

    def trip(connection: Connection, device: str, events: list[Event]) -> None:
        if any(event.kind == "poison" for event in events):
            raise ValueError("nobody thought of this")
        take_in(connection, device, events)

    monkeypatch.setattr(measurements, "note", trip)
    monkeypatch.setattr(server.keeper, "keep", lambda _: stop.set())
    server.send(
        a_batch(0), batches.make("e1", Lane.EVENTS, 0, [Event(START, "poison")]), batches.make("e1", Lane.EVENTS, 1, [Event(START, "x")])
    )
    server.compactor.run(stop, compactor.Backoff(0.0, 0.0))
    assert server.ids() == [("cam-1", "0"), ("cam-1", "1")]
    lines = {line.lane: (line.stored, line.malformed) for line in streams.lines(server.world.engine)}
    assert lines == {"telemetry": (2, 0), "events": (2, 1)}


def test_small_files_become_one_and_lie_there_a_while(server: Server) -> None:
    for first in range(0, 40, 2):
        server.send(a_batch(first))
        server.compactor.turn()
    before = server.ids()
    assert (len(server.files()), server.keep().merges) == (20, 20)
    assert (len(server.files()), len(server.lying()), server.ids()) == (1, 21, before)
    server.world.clock.forward(seconds=keeping.GRACE_S + 1)
    server.keep()
    assert server.lying() == server.files()


def test_few_files_of_a_day_that_is_over_become_one(server: Server) -> None:
    for first in (0, 2):
        server.send(a_batch(first))
        server.compactor.turn()
    assert merging.merge_once(server.lake, server.world.clock()) == 0
    assert merging.merge_once(server.lake, server.world.clock() + timedelta(days=1)) == 2
    assert len(server.ids()) == 4


@pytest.mark.parametrize("retention", [pytest.param(Retention(days=3, minutes_days=3), id="three days")])
def test_what_is_too_old_goes(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for days in (0, 2, 4):
        server.send(a_batch(10 * days, at=START - timedelta(days=days)))
        server.compactor.turn()
    assert server.keep().expired == 1
    assert "retention: 1 files go, of 2025-12-29 to 2025-12-29" in caplog.text
    assert [parts.split("/")[1] for parts in server.files()] == ["day=2025-12-31", "day=2026-01-02"]
    with reading(server.world.engine) as connection:
        assert connection.execute(select(func.count()).select_from(Minute)).scalar_one() == 2


def test_a_deleted_device_is_taken_out_of_the_files(server: Server) -> None:
    sample = Sample(START, SHA, "drift-1", "f1", "application/json", b"[1, 2]", "no", 0.6)
    server.send(a_batch(0), batches.make("e1", Lane.SAMPLES, 0, [sample]))
    server.send(a_batch(0), device="cam-2")
    server.compactor.turn()
    server.send(a_batch(2))
    server.compactor.turn()
    deletion.begin(server.world.fleet, "cam-1", by="test", now=server.world.clock())
    server.send(a_batch(4))
    server.compactor.turn()
    assert server.ids() == [("cam-2", "0"), ("cam-2", "1")]
    assert server.lying() == server.files()
    assert deletion.pending(server.world.engine) == []
    assert list(server.world.fleet.samples.iterdir()) == []


def test_a_segment_that_rots_is_set_aside_and_holds_up_nobody(server: Server) -> None:
    for first in (0, 2, 4):
        server.send(a_batch(first))
    with writing(server.inbox.engine) as connection:
        connection.execute(update(sql.INBOX).where(sql.INBOX.c.id == 2).values(content=b"\x93rotten"))
    server.compactor.turn()
    assert [path.read_bytes() for path in (server.lake.home / damaged.FOLDER).iterdir()] == [b"\x93rotten"]
    assert (server.compactor.figures.malformed, server.compactor.figures.rows) == (1, 4)
    assert server.inbox.backlog().segments == 0
