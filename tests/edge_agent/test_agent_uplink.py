"""The uplink: as much in flight as is acknowledged, the newest first, repeated on a new connection, forgotten only when acknowledged."""

import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, time

import pytest

from edge_agent.errors import Retry
from edge_agent.hours import DailyWindow, QuietHours
from edge_agent.link.pace import Pace
from edge_agent.link.uplink import Uplink
from fleet_contract.messages import Ack, Batch, ClockState, Event, FromDevice, Lane, Result, Sample, Status
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.agent_store import MemoryStore
from tests.fakes.agent_world import FakeLink, ack_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
NOISE = random.Random(0).randbytes(40_000)


def result(number: int) -> Result:
    return Result(at=AT, bundle="b", input_id=str(number), label=None, value=0.0, latency_us=1)


def sample() -> Sample:
    return Sample(at=AT, bundle="b", campaign="c", input_id="i", media_type="image/png", data=NOISE, label=None, value=0.0)


PACE = Pace(window=16, patience_s=10, gather_s=0.01, heartbeat_s=5)


class World:
    """The window opens at 4; nothing is random."""

    def __init__(self, pace: Pace = PACE) -> None:
        self.store, self.link, self.clock = MemoryStore(), FakeLink(), FakeClock()
        self.phase, self.inputs = "idle", 0
        self.trust: ClockState = "trusted"
        self.uplink = Uplink(self.store, self.link, self.clock, self.observe, pace, trust=lambda: self.trust, uniform=lambda: 0.0)
        self.store.on_append = self.uplink.on_append

    def observe(self) -> Status:
        return Status(at=self.clock.now(), online=True, epoch=self.store.epoch, phase=self.phase, inputs=self.inputs)

    def queued(self) -> int:
        return sum(lane.queued for lane in self.store.ledger().values())

    def append(self, count: int) -> None:
        """So many units of one result each."""
        for number in range(count):
            self.store.append([result(number)])

    def turn(self, after_s: float = 0.0) -> list[Batch]:
        """What one more turn sends."""
        self.clock.elapsed_s += after_s
        before = len(self.link.batches())
        self.uplink.turn()
        return self.link.batches()[before:]

    def acknowledge(self, batches: list[Batch]) -> None:
        for batch in batches:
            self.uplink.on_ack(ack_of(batch))

    def reconnect(self) -> None:
        self.link.connected = True
        self.uplink.on_connected()


@pytest.fixture
def steady() -> World:
    """It has looked for history and found none."""
    world = World()
    world.uplink.turn()
    return world


@pytest.fixture
def world() -> World:
    return World()


def firsts(batches: list[Batch]) -> list[int]:
    return [batch.first for batch in batches]


class TestRecords:
    def test_sent_acknowledged_forgotten(self, world: World) -> None:
        world.store.append([result(1), result(2)])
        world.acknowledge(world.turn())
        assert world.queued() == 2, "an acknowledgement is only noted in the session's thread"
        world.turn()
        assert world.queued() == 0

    def test_sent_once_while_the_acknowledgement_is_on_its_way(self, world: World) -> None:
        world.append(1)
        assert [len(world.turn()) for _ in range(3)] == [1, 0, 0]

    def test_one_acknowledgement_for_several_batches(self, steady: World) -> None:
        steady.append(4)
        steady.turn()
        steady.uplink.on_ack(Ack("epoch-1", Lane.TELEMETRY, [(0, 3)]))
        steady.turn()
        assert steady.queued() == 0

    def test_acknowledgements_of_another_epoch_are_not_ours(self, world: World) -> None:
        world.append(1)
        world.turn()
        world.uplink.on_ack(Ack("epoch-0", Lane.TELEMETRY, [(0, 0)]))
        world.turn()
        assert world.queued() == 1

    def test_an_outbox_made_anew_while_running(self, world: World) -> None:
        world.append(1)
        world.turn()
        world.store.epoch, world.store.units, world.store.handed = "epoch-2", {}, set()
        world.store.produced = dict.fromkeys(Lane, 0)
        world.append(1)
        assert [batch.epoch for batch in world.turn()] == ["epoch-2"]
        assert world.turn(after_s=11), "missed for itself alone"

    def test_offline_nothing_is_touched(self, world: World) -> None:
        world.link.connected = False
        world.append(1)
        world.uplink.turn()
        assert (world.link.sent, world.queued(), world.store.handed) == ([], 1, set())

    def test_a_connection_that_breaks_between_two_messages_loses_none(self, world: World) -> None:
        world.uplink.turn()
        world.append(3)
        world.link.accept = 1
        with pytest.raises(Retry):
            world.uplink.turn()
        world.link.accept = None
        world.reconnect()
        world.turn()
        world.acknowledge(world.link.batches())
        world.turn()
        world.acknowledge(world.link.batches())
        world.turn()
        assert world.queued() == 0


class TestWindow:
    def test_doubles_while_all_is_acknowledged_up_to_its_bound(self, steady: World) -> None:
        steady.append(100)
        sizes = []
        for _ in range(4):
            sent = steady.turn()
            sizes.append(len(sent))
            steady.acknowledge(sent)
        assert sizes == [4, 8, 16, 16]

    def test_does_not_grow_by_what_did_not_fill_it(self, steady: World) -> None:
        for _ in range(20):
            steady.append(1)
            steady.acknowledge(steady.turn())
        steady.turn()
        steady.append(100)
        assert len(steady.turn()) == 4

    def test_silence_sends_one_batch_again_and_halves_it(self, steady: World) -> None:
        """A server that is slow must not get everything twice."""
        steady.append(100)
        steady.turn()
        assert firsts(steady.turn(after_s=11)) == [0]
        assert firsts(steady.turn(after_s=19)) == [], "twice as patient now"
        assert firsts(steady.turn(after_s=2)) == [1]

    def test_an_hour_of_silence_costs_few_repetitions(self, steady: World) -> None:
        steady.append(100)
        steady.turn()
        again = sum(len(steady.turn(after_s=1)) for _ in range(3_600))
        assert 5 <= again <= 20

    def test_what_others_overtook_is_sent_again_and_nothing_else(self, steady: World) -> None:
        steady.append(2)
        lost, kept = steady.turn()
        steady.append(1)
        (later,) = steady.turn(after_s=5)
        steady.acknowledge([kept, later])
        assert firsts(steady.turn(after_s=15)) == [lost.first]
        steady.acknowledge([lost])
        steady.turn()
        assert steady.queued() == 0

    def test_a_server_that_lost_them_and_answers_again_gets_them_at_once(self, steady: World) -> None:
        steady.append(4)
        lost = steady.turn()
        (asked,) = steady.turn(after_s=11)
        assert asked is lost[0]
        steady.acknowledge([asked])
        assert [len(steady.turn(after_s=1)) for _ in range(4)] == [0, 0, 3, 0]

    def test_it_learns_how_long_acknowledgements_take(self, steady: World) -> None:
        """A server that always takes 30 s makes this device repeat itself at first alone."""
        steady.append(1)
        repeated = len(steady.turn()) - 1
        for _ in range(10):
            repeated += sum(len(steady.turn(after_s=5)) for _ in range(6))
            steady.acknowledge([batch for batch in steady.link.batches() if (batch.lane, batch.first) in steady.store.units])
            steady.append(1)
            repeated += len(steady.turn()) - 1
        assert repeated <= 3


class TestNobodyListens:
    """As a broker says of each message while the server is away (MQTT 5, 3.4.2.1)."""

    def test_one_asks_again_soon_and_ever_more_seldom(self, steady: World) -> None:
        steady.link.listens = False
        steady.append(100)
        assert len(steady.turn()) == 4
        assert [len(steady.turn(after_s=1.1)) for _ in range(7)] == [1, 0, 1, 0, 0, 0, 1]
        again = [len(steady.turn(after_s=1)) for _ in range(3_600)]
        assert (max(again), 100 < sum(again) < 120) == (1, True), "every half a minute"

    def test_the_smallest_asks(self, steady: World) -> None:
        steady.link.listens = False
        steady.store.append([sample()])
        steady.append(1)
        steady.turn()
        assert [batch.lane for batch in steady.turn(after_s=2)] == [Lane.TELEMETRY]

    def test_all_goes_at_once_to_a_server_that_is_back_and_nothing_is_slower_for_it(self, steady: World) -> None:
        steady.link.listens = False
        steady.append(4)
        steady.turn()
        for _ in range(3_600):
            steady.turn(after_s=1)
        steady.link.listens = True
        asked = steady.turn(after_s=33)
        assert len(asked) == 1
        steady.acknowledge(asked)
        rest = steady.turn(after_s=1)
        assert len(rest) == 3
        steady.acknowledge(rest)
        steady.append(100)
        assert len(steady.turn()) == 5, "one more for the one that asked"

    def test_whom_nobody_hears_is_behind(self, steady: World) -> None:
        steady.link.listens = False
        steady.append(1)
        steady.turn()
        steady.turn(after_s=3)
        steady.clock.elapsed_s += 3
        assert steady.uplink.is_behind()


class TestConnections:
    def test_what_was_on_its_way_is_sent_again(self, world: World) -> None:
        world.append(1)
        world.turn()
        world.reconnect()
        assert firsts(world.turn()) == [0]

    def test_the_newest_first_history_behind(self, world: World) -> None:
        world.turn()
        world.append(50)
        world.store.append([Event(at=AT, kind="k")])
        world.reconnect()
        world.store.rewind()
        world.turn()
        seen = [(batch.lane, batch.first) for batch in world.link.batches()]
        assert seen[0] == (Lane.EVENTS, 0)
        assert seen[1:] == [(Lane.TELEMETRY, 0), (Lane.TELEMETRY, 1)], "half of the window is history's"
        world.append(1)
        assert firsts(world.turn()) == [50]

    def test_status_goes_before_all_records(self, world: World) -> None:
        world.append(1)
        world.reconnect()
        world.turn()
        assert [type(message) for message in world.link.sent] == [Status, Batch]

    def test_history_goes_on_beside_any_stream(self, world: World) -> None:
        world.append(20)
        world.reconnect()
        for _ in range(20):
            world.append(10)
            world.acknowledge(world.turn())
        assert {batch.first for batch in world.link.batches()} >= set(range(20))

    def test_behind_is_who_waits_long_for_any_of_them(self, world: World) -> None:
        sent = []
        for seconds in (0, 1, 1):
            world.append(1)
            sent += world.turn(after_s=seconds)
        assert not world.uplink.is_behind()
        world.clock.elapsed_s += 0.5
        world.acknowledge(sent[1:2])
        world.turn()
        assert world.uplink.is_behind(), "the newer ones that were acknowledged do not hide the oldest"
        world.acknowledge(sent[:1])
        world.turn()
        assert not world.uplink.is_behind()


class TestRate:
    def test_no_more_than_the_cap(self) -> None:
        world = World(replace(PACE, rate_bytes_per_s=20_000, heartbeat_s=3_600))
        for _ in range(100):
            world.store.append([sample()])
        size = 0
        for _ in range(600):
            sent = world.turn(after_s=0.1)
            size += sum(len(batch.data) for batch in sent)
            world.acknowledge(sent)
        assert 0.8 * 60 * 20_000 < size <= 62 * 20_000

    def test_history_has_its_share_of_it(self) -> None:
        world = World(replace(PACE, rate_bytes_per_s=40_000, heartbeat_s=3_600, history_share=0.25))
        for _ in range(200):
            world.store.append([sample()])
        world.reconnect()
        size = 0
        for _ in range(600):
            sent = world.turn(after_s=0.1)
            size += sum(len(batch.data) for batch in sent)
            world.acknowledge(sent)
        assert 0.7 * 60 * 10_000 < size <= 65 * 10_000


class TestQuietHours:
    AT_NIGHT = replace(PACE, quiet=QuietHours((DailyWindow(time(0), time(1)),), UTC))

    def test_events_and_status_alone(self) -> None:
        world = World(self.AT_NIGHT)
        world.append(3)
        world.store.append([Event(at=AT, kind="k")])
        sent = world.turn()
        assert [batch.lane for batch in sent] == [Lane.EVENTS]
        assert len(world.link.statuses()) == 1
        world.acknowledge(sent)
        assert len(world.turn(after_s=3_600)) == 3, "in the morning the rest"

    def test_not_by_a_clock_that_may_be_wrong(self) -> None:
        world = World(self.AT_NIGHT)
        world.trust = "untrusted"
        world.append(3)
        assert len(world.turn()) == 3

    def test_records_wait_for_the_clock_a_while(self) -> None:
        world = World(replace(PACE, clock_wait_s=30))
        world.trust = "untrusted"
        world.append(1)
        assert not world.turn(after_s=29)
        assert world.turn(after_s=2)


class TestStatus:
    def test_at_once_at_each_connection(self, world: World) -> None:
        world.uplink.turn()
        world.uplink.on_connected()
        world.uplink.turn()
        assert len(world.link.statuses()) == 2

    def test_at_each_change_of_the_phase(self, world: World) -> None:
        world.uplink.turn()
        world.phase = "fetching"
        world.uplink.turn()
        assert [status.phase for status in world.link.statuses()] == ["idle", "fetching"]

    def test_counters_alone_wait_for_the_heartbeat(self, world: World) -> None:
        world.uplink.turn()
        world.inputs = 7
        world.uplink.turn()
        assert len(world.link.statuses()) == 1
        world.turn(after_s=5)
        assert world.link.statuses()[-1].inputs == 7

    def test_goodbye(self, world: World) -> None:
        world.uplink.close()
        assert [status.online for status in world.link.statuses()] == [False]


class TestLastWords:
    def test_they_are_waited_for_until_the_server_has_them(self, world: World) -> None:
        world.link.on_send = lambda message: world.uplink.on_ack(ack_of(message)) if isinstance(message, Batch) else None
        world.store.append([Event(at=AT, kind="agent.failed")])
        world.uplink.start()
        assert world.uplink.drain(60)
        assert world.queued() == 0
        world.uplink.close()

    def test_without_a_connection_they_stay_for_the_next_start(self, world: World) -> None:
        world.link.connected = False
        world.clock.step_s = 1
        world.store.append([Event(at=AT, kind="agent.failed")])
        assert not world.uplink.drain(2)
        assert world.queued() == 1


def test_the_thread_carries_everything_up_and_survives_what_a_turn_meets(world: World) -> None:
    """Acknowledged by the far end as it comes; one send fails in a way that nobody foresaw."""
    done, failed = threading.Event(), threading.Event()
    stored: set[int] = set()

    def far_end(message: FromDevice) -> None:
        if isinstance(message, Batch) and not failed.is_set():
            failed.set()
            raise RuntimeError("unforeseen")
        if isinstance(message, Batch):
            stored.update(message.sequences)
            world.uplink.on_ack(ack_of(message))
            if len(stored) == 50:
                done.set()

    world.link.on_send = far_end
    world.uplink.start()
    for number in range(50):
        world.store.append([result(number)])
    assert done.wait(20)
    world.uplink.close()
    assert world.queued() == 0


def test_what_is_appended_while_nothing_was_to_be_done_goes_up_at_once(world: World) -> None:
    idle, sent = threading.Event(), threading.Event()
    world.link.on_send = lambda message: sent.set() if isinstance(message, Batch) else idle.set()
    uplink = Uplink(world.store, world.link, world.clock, world.observe, Pace(gather_s=0.01, heartbeat_s=600, idle_s=600))
    world.store.on_append = uplink.on_append
    uplink.start()
    assert idle.wait(20), "its first status has gone"
    world.append(1)
    assert sent.wait(20)
    uplink.close()
