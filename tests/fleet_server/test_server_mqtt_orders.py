"""The publisher of orders: every device's newest, once a connection, however small its queue is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet_contract.mqtt import Offline
from fleet_server.mqtt import orders as orders_module
from fleet_server.mqtt.orders import OrderPublisher

PATIENCE_S = 10.0
ALL = {f"cam-{number}": b"1" for number in range(20)}


class Taken:
    """A Handover that the broker has acknowledged, or never will."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def taken(self, timeout_s: float = 0.0) -> bool:
        if not self._connection.online:
            raise Offline("lost")
        return self._connection.acknowledges.wait(timeout_s)


class Connection:
    """Has a queue with `room`, which a test may widen, lose or stall."""

    def __init__(self, room: int = 1_000) -> None:
        self.online, self.room, self.lost = True, room, threading.Event()
        self.sent: list[tuple[str, bytes]] = []
        self.acknowledges, self._changed = threading.Event(), threading.Condition()
        self.acknowledges.set()
        self.full = threading.Event()

    def publish(self, device: str, envelope: bytes) -> Taken:
        with self._changed:
            if not self.online or len(self.sent) >= self.room:
                self.full.set()
                raise Offline("no room")
            self.sent.append((device, envelope))
            self._changed.notify_all()
        return Taken(self)

    def wait_sent(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent) >= count, PATIENCE_S), self.sent


@contextmanager
def publishing(connection: Connection) -> Iterator[OrderPublisher]:
    publisher = OrderPublisher(connection.publish, lambda: connection.online, connection.lost.set)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


def test_a_full_queue_is_waited_for() -> None:
    connection = Connection(room=5)
    with publishing(connection) as publisher:
        publisher.put(ALL)
        assert connection.full.wait(PATIENCE_S)
        connection.room = 1_000
        connection.wait_sent(20)
    assert dict(connection.sent) == ALL
    assert not connection.lost.is_set()


def test_no_more_are_under_way_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "_WINDOW", 4)
    connection = Connection()
    connection.acknowledges.clear()
    with publishing(connection) as publisher:
        publisher.put(ALL)
        connection.wait_sent(4)
        assert len(connection.sent) == 4
        connection.acknowledges.set()
        connection.wait_sent(20)


def test_the_newest_of_a_device_takes_the_place_of_one_that_waits() -> None:
    connection = Connection(room=1)
    with publishing(connection) as publisher:
        publisher.put({"first": b"1"})
        connection.wait_sent(1)
        publisher.put({"second": b"1"})
        publisher.put({"cam": b"old"})
        publisher.put({"cam": b"new"})
        connection.room = 10
        connection.wait_sent(3)
    assert connection.sent[1:] == [("second", b"1"), ("cam", b"new")]


def test_each_goes_out_once_a_connection() -> None:
    connection = Connection()
    with publishing(connection) as publisher:
        publisher.put({"cam-0": b"1"})
        connection.wait_sent(1)
        publisher.put_missing(ALL)
        connection.wait_sent(20)
        publisher.put_missing(ALL)
        publisher.begin_anew()
        publisher.put_missing(ALL)
        connection.wait_sent(40)
    assert sorted(connection.sent) == sorted([*ALL.items()] * 2)


def test_a_lost_connection_is_told_and_others_are_not_waited_for() -> None:
    connection = Connection()
    connection.online = False
    with publishing(connection) as publisher:
        publisher.put(ALL)
        assert connection.lost.wait(PATIENCE_S)
        publisher.begin_anew()
        connection.online = True
        publisher.put_missing(ALL)
        connection.wait_sent(20)
