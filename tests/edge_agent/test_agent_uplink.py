"""The uplink: bounded in flight, repeated after silence and on every new connection, forgotten only when acknowledged."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.errors import Retry
from edge_agent.link.outbox import Outbox
from edge_agent.link.uplink import Pace, Uplink
from fleet_contract.messages import Ack, Batch, Event, FromDevice, Lane, Result, Sample, Status
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.agent_world import FakeLink, ack_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


def result(number: int) -> Result:
    return Result(at=AT, bundle="b", input_id=str(number), label=None, value=0.0, latency_us=1)


def sample() -> Sample:
    return Sample(at=AT, bundle="b", campaign="c", input_id="i", media_type="image/png", data=bytes(40_000), label=None, value=0.0)


class World:
    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.link, self.clock = outbox, FakeLink(), FakeClock()
        self.phase, self.inputs = "idle", 0
        self.uplink = Uplink(outbox, self.link, self.clock, self.observe, Pace(window=4, patience_s=10, gather_s=0.01, heartbeat_s=5))
        outbox.listen(self.uplink.on_append)

    def observe(self) -> Status:
        return Status(at=self.clock.now(), online=True, epoch=self.outbox.epoch, phase=self.phase, inputs=self.inputs)

    def queued(self) -> int:
        return sum(lane.queued for lane in self.outbox.ledger().values())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(Outbox(tmp_path / "outbox.db", new_epoch=lambda: "epoch-1")) as outbox:
        yield World(outbox)


class TestRecords:
    def test_sent_acknowledged_forgotten(self, world: World) -> None:
        world.outbox.append([result(1), result(2)])
        world.uplink.turn()
        world.uplink.on_ack(ack_of(world.link.batches()[0]))
        assert world.queued() == 2, "an acknowledgement is only noted in the session's thread"
        world.uplink.turn()
        assert world.queued() == 0

    def test_sent_once_while_the_acknowledgement_is_on_its_way(self, world: World) -> None:
        world.outbox.append([result(1)])
        for _ in range(3):
            world.uplink.turn()
        assert len(world.link.batches()) == 1

    def test_never_more_in_flight_than_the_window(self, world: World) -> None:
        world.outbox.append([sample() for _ in range(9)])
        world.uplink.turn()
        world.uplink.turn()
        assert len(world.link.batches()) == 4
        world.uplink.on_ack(ack_of(world.link.batches()[0]))
        world.uplink.turn()
        assert len(world.link.batches()) == 5

    def test_one_acknowledgement_for_several_batches(self, world: World) -> None:
        world.outbox.append([sample() for _ in range(8)])
        world.uplink.turn()
        world.uplink.on_ack(Ack("epoch-1", Lane.SAMPLES, [(0, 3)]))
        world.uplink.turn()
        assert len(world.link.batches()) == 8

    def test_silence_sends_everything_again(self, world: World) -> None:
        world.outbox.append([result(1)])
        world.uplink.turn()
        world.clock.elapsed_s += 11
        world.uplink.turn()
        assert [batch.first for batch in world.link.batches()] == [0, 0]

    def test_behind_is_who_waits_long_for_any_of_them(self, world: World) -> None:
        for seconds in (0, 1, 1):
            world.clock.elapsed_s += seconds
            world.outbox.append([result(seconds)])
            world.uplink.turn()
        assert not world.uplink.is_behind()
        world.clock.elapsed_s += 0.5
        world.uplink.on_ack(ack_of(world.link.batches()[1]))
        world.uplink.turn()
        assert world.uplink.is_behind(), "the newer ones that were acknowledged do not hide the oldest"
        world.uplink.on_ack(ack_of(world.link.batches()[0]))
        world.uplink.turn()
        assert not world.uplink.is_behind()

    def test_a_new_connection_sends_everything_again(self, world: World) -> None:
        world.outbox.append([result(1)])
        world.uplink.turn()
        world.uplink.on_connected()
        world.uplink.turn()
        assert [batch.first for batch in world.link.batches()] == [0, 0]

    def test_acknowledgements_of_another_epoch_are_not_ours(self, world: World) -> None:
        world.outbox.append([result(1)])
        world.uplink.turn()
        world.uplink.on_ack(Ack("epoch-0", Lane.TELEMETRY, [(0, 0)]))
        world.uplink.turn()
        assert world.queued() == 1

    def test_offline_nothing_is_touched(self, world: World) -> None:
        world.link.connected = False
        world.outbox.append([result(1)])
        world.uplink.turn()
        assert (world.link.sent, world.queued()) == ([], 1)

    def test_a_connection_that_breaks_between_two_messages_loses_none(self, world: World) -> None:
        world.outbox.append([sample() for _ in range(3)])
        world.link.accept = 1
        with pytest.raises(Retry):
            world.uplink.turn()
        world.link.accept, world.link.connected = None, True
        world.uplink.on_connected()
        world.uplink.turn()
        assert [batch.first for batch in world.link.batches()] == [0, 0, 1, 2]


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
        world.clock.elapsed_s += 5
        world.uplink.turn()
        assert world.link.statuses()[-1].inputs == 7

    def test_goodbye(self, world: World) -> None:
        world.uplink.close()
        assert [status.online for status in world.link.statuses()] == [False]


class TestLastWords:
    def test_they_are_waited_for_until_the_server_has_them(self, world: World) -> None:
        world.link.on_send = lambda message: world.uplink.on_ack(ack_of(message)) if isinstance(message, Batch) else None
        world.outbox.append([Event(at=AT, kind="agent.failed")])
        world.uplink.start()
        assert world.uplink.drain(60)
        assert world.queued() == 0
        world.uplink.close()

    def test_without_a_connection_they_stay_for_the_next_start(self, world: World) -> None:
        world.link.connected = False
        world.clock.step_s = 1
        world.outbox.append([Event(at=AT, kind="agent.failed")])
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
            stored.update(range(message.first, message.first + len(message.records)))
            world.uplink.on_ack(ack_of(message))
            if len(stored) == 50:
                done.set()

    world.link.on_send = far_end
    world.uplink.start()
    for number in range(50):
        world.outbox.append([result(number)])
    assert done.wait(20)
    world.uplink.close()
    assert world.queued() == 0


def test_what_is_appended_while_nothing_was_to_be_done_goes_up_at_once(world: World) -> None:
    idle, sent = threading.Event(), threading.Event()
    world.link.on_send = lambda message: sent.set() if isinstance(message, Batch) else idle.set()
    uplink = Uplink(world.outbox, world.link, world.clock, world.observe, Pace(gather_s=0.01, heartbeat_s=600, idle_s=600))
    world.outbox.listen(uplink.on_append)
    uplink.start()
    assert idle.wait(20), "its first status has gone"
    world.outbox.append([result(1)])
    assert sent.wait(20)
    uplink.close()
