"""Ignored messages reach the server as counts, and a flood of them costs one event a minute."""

import pytest

from edge_agent.link.ignored import PAUSE_S, Ignored
from fleet_contract.messages import Event
from tests.fakes.agent_run_world import FakeClock, FakeStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def told(store: FakeStore) -> list[dict]:
    return [event.detail for event in store.of(Event) if event.kind == "message.ignored"]


def test_silence_is_not_told(clock: FakeClock) -> None:
    store = FakeStore()
    Ignored(store, clock).tell(last=True)
    assert told(store) == []


def test_the_first_is_told_at_once_and_a_flood_once_a_minute(clock: FakeClock) -> None:
    store = FakeStore()
    ignored = Ignored(store, clock)
    ignored.note("unknown-version")
    ignored.tell()
    for _ in range(1_000):
        ignored.note("malformed-message")
        ignored.tell()
    assert told(store) == [{"unknown-version": 1}]
    clock.elapsed_s += PAUSE_S
    ignored.tell()
    assert told(store) == [{"unknown-version": 1}, {"malformed-message": 1_000}]


def test_the_end_of_the_program_does_not_lose_counts(clock: FakeClock) -> None:
    store = FakeStore()
    ignored = Ignored(store, clock)
    for code in ("bad-topic", "too-large", "bad-topic"):
        ignored.note(code)
        ignored.tell()
    ignored.tell(last=True)
    assert told(store) == [{"bad-topic": 1}, {"too-large": 1, "bad-topic": 1}]


def test_a_full_disk_does_not_lose_counts(clock: FakeClock) -> None:
    store = FakeStore(failures=[1])
    ignored = Ignored(store, clock)
    ignored.note("bad-topic")
    ignored.tell()
    ignored.note("bad-topic")
    ignored.tell()
    assert told(store) == [{"bad-topic": 2}]
