"""Uplink and outbox together, over a link that loses, delays and breaks: every record comes, none is forgotten before, and the numbers add up."""

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.errors import Retry
from edge_agent.link.pace import Pace
from edge_agent.link.uplink import Uplink
from edge_agent.outbox.store import Outbox
from edge_agent.ports import Reading
from fleet_contract import batches, columns
from fleet_contract.messages import Batch, Event, FromDevice, Lane, Result, Status
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.agent_world import FakeLink, ack_of

WRONG, RIGHT = datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
S = timedelta(seconds=1)


class World:
    """A far end that stores what `arrives` lets through, and acknowledges what `answers` lets back, later."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.link = FakeClock(), FakeLink()
        self.link.on_send = self.receive
        self.reading = Reading(WRONG, 0, "boot", "untrusted")
        self.store = Outbox(folder / "outbox.db", new_epoch=lambda: "epoch-1", read=self.read)
        self.draw = random.Random(11)
        self.loses, self.stored, self.answers = 0.0, {}, []
        pace = Pace(window=8, patience_s=5, longest_patience_s=20, heartbeat_s=60)
        self.uplink = Uplink(self.store, self.link, self.clock, self.observe, pace, uniform=self.draw.random)
        self.uplink.on_connected()

    def read(self) -> Reading:
        elapsed_s = self.clock.elapsed_s
        return replace(self.reading, at=self.reading.at + elapsed_s * S, mono_us=int(elapsed_s * 1e6))

    def observe(self) -> Status:
        return Status(at=RIGHT, online=True, epoch=self.store.epoch)

    def receive(self, message: FromDevice) -> None:
        if isinstance(message, Batch) and self.draw.random() >= self.loses:
            known = self.stored.setdefault((message.lane, message.first), message)
            assert known == message, "whenever it is sent again, it is the same"
            self.answers.append(message)

    def turn(self) -> None:
        self.clock.elapsed_s += 0.5
        for batch in self.answers if self.draw.random() < 0.5 else []:
            if self.draw.random() >= self.loses:
                self.uplink.on_ack(ack_of(batch))
                self.answers = [other for other in self.answers if other is not batch]
        try:
            self.uplink.turn()
        except Retry:
            self.link.connected, self.link.accept = True, None
            self.uplink.on_connected()

    def result(self, number: int) -> Result:
        return Result(at=self.read().at, bundle="b", input_id=str(number), label=None, value=0.0, latency_us=1)

    def numbers(self, lane: Lane) -> list[int]:
        return sorted(number for unit, batch in self.stored.items() if unit[0] == lane for number in batch.sequences)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with closing(world.store):
        yield world


def test_whatever_the_link_does_all_comes_once(world: World) -> None:
    world.loses = 0.3
    for number in range(150):
        world.store.append([world.result(number)])
        if number % 10 == 0:
            world.store.append([Event(at=RIGHT, kind="k")])
        if world.draw.random() < 0.05:
            world.link.accept = world.draw.randrange(3)
        world.turn()
    world.loses, turns = 0.0, 0
    while any(lane.queued for lane in world.store.ledger().values()):
        world.turn()
        turns += 1
        assert turns < 1_000
    assert (world.numbers(Lane.TELEMETRY), world.numbers(Lane.EVENTS)) == (list(range(150)), list(range(15)))
    assert [(lane.produced, lane.acknowledged) for lane in world.store.ledger().values()] == [(15, 15), (0, 0), (150, 150), (0, 0)]


def test_after_an_outage_the_newest_come_first(world: World) -> None:
    world.link.connected = False
    for number in range(3_000):
        if number % 500 == 0:
            world.store.append([world.result(n) for n in range(number, number + 500)])
    world.store.append([Event(at=RIGHT, kind="k")])
    world.link.connected = True
    world.uplink.on_connected()
    world.uplink.turn()
    world.store.append([world.result(3_000)])
    world.uplink.turn()
    sent = [(batch.lane, batch.last) for batch in world.link.batches()]
    assert sent[0][0] == Lane.EVENTS
    assert sent.index((Lane.TELEMETRY, 3_000)) < 4, "before the rest of the history"


class TestClocks:
    def test_dated_again_before_it_is_sent(self, world: World) -> None:
        world.link.connected = False
        world.store.append([world.result(0)])
        world.clock.elapsed_s = 100
        world.store.append([world.result(1)])
        world.reading = replace(world.reading, at=RIGHT, state="trusted")
        world.store.append([world.result(2)])
        world.link.connected = True
        world.uplink.turn()
        found = [(batch.clock, result.at) for batch in world.link.batches() for result in columns.to_results(batches.unpack(batch))]
        assert found == [("corrected", RIGHT), ("corrected", RIGHT + 100 * S), ("trusted", RIGHT + 100 * S)]

    def test_those_of_an_earlier_boot_stay_untrusted(self, world: World) -> None:
        world.link.connected = False
        world.store.append([world.result(0)])
        world.reading = Reading(RIGHT, 0, "next boot", "trusted")
        world.store.append([world.result(1)])
        world.link.connected = True
        world.uplink.turn()
        assert [(batch.boot, batch.clock) for batch in world.link.batches()] == [("boot", "untrusted"), ("next boot", "trusted")]

    def test_a_wall_clock_that_jumps_reorders_nothing(self, world: World) -> None:
        for number, jump_s in enumerate((0, 86_400, -3_600, 7)):
            world.reading = replace(world.reading, at=RIGHT + jump_s * S, state="trusted")
            world.clock.elapsed_s += 1
            world.store.append([world.result(number)])
        for _ in range(4):
            world.turn()
        found = [batch for _, batch in sorted(world.stored.items())]
        ids = [result.input_id for batch in found for result in columns.to_results(batches.unpack(batch))]
        mono = [us for batch in found for us in columns.sums(batches.unpack(batch).mono_us)]
        assert (ids, mono) == (["0", "1", "2", "3"], [1_000_000, 2_000_000, 3_000_000, 4_000_000])
