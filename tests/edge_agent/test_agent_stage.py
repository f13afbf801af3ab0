"""A step of a production line: in order, side by side with the others, and nothing is lost in silence."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from edge_agent.stage import Stage


@pytest.fixture
def done() -> list[int]:
    return []


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def working(done: list[int], gate: threading.Event, bad: int | None = None) -> Callable[[int], None]:
    def work(item: int) -> None:
        gate.wait(30)
        if item == bad:
            raise ValueError(f"item {item}")
        done.append(item)

    return work


def test_items_are_worked_off_in_order(done: list[int], gate: threading.Event) -> None:
    gate.set()
    with closing(Stage("x", working(done, gate))) as stage:
        for item in range(50):
            stage.put(item)
        stage.settle()
        assert done == [*range(50)]


def test_put_returns_while_the_item_is_worked_on(done: list[int], gate: threading.Event) -> None:
    with closing(Stage("x", working(done, gate))) as stage:
        stage.put(1)
        stage.put(2)
        assert done == []
        gate.set()
        stage.settle()
        assert done == [1, 2]


def test_what_an_item_raised_is_told_once_and_what_waits_behind_it_is_dropped(done: list[int], gate: threading.Event) -> None:
    with closing(Stage("x", working(done, gate, bad=1))) as stage:
        stage.put(1)
        stage.put(2)
        gate.set()
        with pytest.raises(ValueError, match="item 1"):
            stage.settle()
        stage.put(3)
        stage.settle()
        assert done == [3]


def test_put_tells_it_too(done: list[int], gate: threading.Event) -> None:
    with closing(Stage("x", working(done, gate, bad=1))) as stage:
        stage.put(1)
        stage.put(2)
        gate.set()
        with pytest.raises(ValueError, match="item 1"):
            stage.put(3)
        stage.settle()
        assert done == []


def test_closing_drops_what_waits(done: list[int], gate: threading.Event) -> None:
    stage = Stage("x", working(done, gate))
    stage.put(1)
    stage.put(2)
    closer = threading.Thread(target=stage.close)
    closer.start()
    gate.set()
    closer.join(30)
    assert not closer.is_alive()
    assert done in ([1], [1, 2])
