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


class Bench:
    """Items that are worked on until they are let go, one by one."""

    def __init__(self) -> None:
        self.begun = [threading.Event() for _ in range(4)]
        self.go = [threading.Event() for _ in range(4)]

    def work(self, item: int) -> int:
        self.begun[item].set()
        self.go[item].wait(30)
        if item < 0:
            raise ValueError(f"item {item}")
        return item


def test_two_hands_work_side_by_side_and_deliver_in_order(done: list[int]) -> None:
    bench = Bench()
    with closing(Stage("x", bench.work, done.append, hands=2)) as stage:
        stage.put(0)
        stage.put(1)
        assert bench.begun[0].wait(30)
        assert bench.begun[1].wait(30)
        bench.go[1].set()
        assert done == []
        bench.go[0].set()
        stage.settle()
        assert done == [0, 1]


def test_items_that_do_not_overlap_are_worked_on_one_by_one(done: list[int]) -> None:
    bench = Bench()
    with closing(Stage("x", bench.work, done.append, hands=2, overlaps=lambda: False)) as stage:
        stage.put(0)
        stage.put(1)
        assert bench.begun[0].wait(30)
        assert not bench.begun[1].is_set()
        bench.go[0].set()
        assert bench.begun[1].wait(30)
        assert done == [0]
        bench.go[1].set()


def test_what_another_hand_made_behind_a_failure_is_not_delivered(done: list[int]) -> None:
    bench = Bench()
    with closing(Stage("x", bench.work, done.append, hands=2)) as stage:
        stage.put(-1)
        stage.put(1)
        assert bench.begun[1].wait(30)
        bench.go[1].set()
        bench.go[-1].set()
        with pytest.raises(ValueError, match="item -1"):
            stage.settle()
        stage.put(2)
        bench.go[2].set()
        stage.settle()
        assert done == [2]
