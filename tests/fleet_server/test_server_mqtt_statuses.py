"""The intake of statuses: the newest of each device, in groups, whatever becomes of the database meanwhile."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from fleet_contract.messages import Status
from fleet_contract.mqtt import Backoff
from fleet_server.errors import NotFound, ServerError
from fleet_server.mqtt import statuses as statuses_module
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.statuses import StatusIntake
from fleet_server.services.statuses import Said
from tests.fakes.server_world import START

PATIENCE_S = 10.0


def says(inputs: int, instance: str = "a", *, online: bool = True) -> Status:
    return Status(at=START, online=online, epoch="e1", inputs=inputs, instance=instance)


class Database:
    """Takes groups while it is open; fails as a test says."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[str, int]]] = []
        self.fails: Callable[[Sequence[Said]], Exception | None] = lambda _: None
        self.open, self._changed = threading.Event(), threading.Condition()

    def take(self, said: Sequence[Said]) -> Mapping[str, ServerError]:
        if not self.open.wait(PATIENCE_S):
            raise OSError("never opened")
        if error := self.fails(said):
            raise error
        with self._changed:
            self.groups.append([(each.device, each.status.inputs) for each in said])
            self._changed.notify_all()
        return {each.device: NotFound("not enrolled") for each in said if each.device == "stranger"}

    def wait_for(self, *expected: tuple[str, int]) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: {*expected} <= {each for group in self.groups for each in group}, PATIENCE_S)
        assert done, self.groups


@contextmanager
def running() -> Iterator[tuple[StatusIntake, Database, Counts]]:
    database, counts = Database(), Counts()
    intake = StatusIntake(database.take, counts, lambda: START, Backoff(0.0, 0.0))
    intake.start()
    try:
        yield intake, database, counts
    finally:
        database.open.set()
        intake.close()


@contextmanager
def held() -> Iterator[tuple[StatusIntake, Database, Counts]]:
    """Its thread waits for the database with a first status, so that what a test offers gathers."""
    with running() as (intake, database, counts):
        taken = threading.Event()
        database.fails = lambda _: taken.set()
        intake.offer("first", says(0))
        database.open.set()
        assert taken.wait(PATIENCE_S)
        database.wait_for(("first", 0))
        database.open.clear()
        intake.offer("first", says(1))
        yield intake, database, counts


def test_what_waits_is_taken_together_the_newest_of_each_device() -> None:
    with held() as (intake, database, _):
        for inputs in range(50):
            for device in ("cam-1", "cam-2"):
                intake.offer(device, says(inputs))
        database.open.set()
        database.wait_for(("cam-1", 49), ("cam-2", 49))
        assert sum(map(len, database.groups)) <= 2 + 3 * 2


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param([says(1), says(2)], [2], id="one instance"),
        pytest.param([says(1), says(2, "b"), says(3)], [1, 2, 3], id="two instances that take turns"),
        pytest.param([says(1), says(2, online=False), says(3, online=False)], [1, 3], id="wills"),
    ],
)
def test_no_turn_of_instances_is_left_out(said: list[Status], kept: list[int]) -> None:
    joined = statuses_module._joined([Said("cam-1", status, START) for status in said])
    assert [each.status.inputs for each in joined] == kept


@pytest.mark.parametrize("error", [OSError("disk full"), OperationalError("", {}, Exception("gone"))], ids=["disk", "database"])
def test_a_database_that_is_away_is_waited_for(error: Exception) -> None:
    with running() as (intake, database, _):
        left = iter([error, error])
        database.fails = lambda _: next(left, None)
        database.open.set()
        intake.offer("cam-1", says(7))
        database.wait_for(("cam-1", 7))


def test_what_can_never_be_stored_holds_up_no_other() -> None:
    with held() as (intake, database, counts):
        database.fails = lambda said: ValueError("poison") if any(each.device == "cam-3" for each in said) else None
        for number in range(8):
            intake.offer(f"cam-{number}", says(number))
        database.open.set()
        database.wait_for(*((f"cam-{number}", number) for number in range(8) if number != 3))
        intake.offer("cam-9", says(9))
        database.wait_for(("cam-9", 9))
        assert counts.snapshot()[Count.UNACCEPTABLE_STATUS] == 1


def test_a_stranger_s_is_counted() -> None:
    with running() as (intake, database, counts):
        database.open.set()
        intake.offer("stranger", says(1))
        database.wait_for(("stranger", 1))
        intake.offer("cam-1", says(1))
        database.wait_for(("cam-1", 1))
        assert counts.snapshot()[Count.UNACCEPTABLE_STATUS] == 1


def test_no_more_devices_wait_than_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses_module, "_MAX_DEVICES", 2)
    counts = Counts()
    intake = StatusIntake(lambda _: {}, counts, lambda: START)
    for number in range(5):
        intake.offer(f"cam-{number}", says(1))
    assert counts.snapshot()[Count.QUEUE_FULL] == 3
