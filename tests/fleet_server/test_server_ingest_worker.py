"""An ingest worker between a real broker and a real inbox."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from fleet_contract import batches, messages, topics
from fleet_contract.broker import Tls
from fleet_contract.messages import Ack, Batch, Lane, Result, Status
from fleet_contract.topics import Down, Up
from fleet_server.inbox import sql
from fleet_server.inbox.segment import Arrival
from fleet_server.ingest import running
from fleet_server.ingest.pace import Bounds
from fleet_server.ingest.running import Job
from fleet_server.ingest.worker import Worker
from fleet_server.tables import database
from fleet_server.tables.device import Device
from tests.fakes.server_broker import KINDS, PATIENCE_S, Client, Place, connected, new_place, until

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = new_place(request.param, tmp_path_factory.mktemp("broker"))
    place.child.start()
    for number in (1, 2):
        place.ca.renew_worker(number)
    yield place
    place.child.close()


@dataclass
class Site:
    """A place, the database of its fleet, and workers that run on both."""

    place: Place
    folder: Path
    stack: ExitStack

    @property
    def job(self) -> Job:
        return Job(self.place.folder, 1, self.place.url, database.sqlite_url(self.folder / "fleet.db"))

    def start(self, job: Job) -> Worker:
        worker = running.assemble(job, self.stack)
        thread = threading.Thread(target=worker.run)
        thread.start()
        self.stack.callback(thread.join)
        self.stack.callback(worker.stop)
        assert worker.connected.wait(PATIENCE_S), "the worker did not connect"
        return worker

    def stored(self) -> list[tuple[str, Batch]]:
        inbox = sql.open_file(self.place.folder / sql.FILE)
        try:
            arrivals = [arrival for segment in inbox.read(0, 1 << 30) for arrival in segment.arrivals]
        finally:
            inbox.engine.dispose()
        return [(arrival.device, messages.decode_from_device(arrival.payload)) for arrival in arrivals]


@pytest.fixture
def site(place: Place, sqlite_engine, tmp_path: Path) -> Iterator[Site]:
    with sqlite_engine.begin() as connection:
        for device in ("pi-1", "pi-2", "pi-bad"):
            apart = START if device == "pi-bad" else None
            connection.execute(insert(Device).values(_device(device, apart)))
    (place.folder / sql.FILE).unlink(missing_ok=True)
    with ExitStack() as stack:
        yield Site(place, tmp_path, stack)


def _device(name: str, apart: datetime | None) -> dict[str, object]:
    return {**Device(id=name, profile="p", task="t", enrolled_at=START, quarantined_at=apart).model_dump(exclude_none=True)}


def batch(first: int, records: int = 2) -> Batch:
    return batches.make("e1", Lane.TELEMETRY, first, [Result(START, "b", "i", "l", 0.5, 10)] * records)


def records_of(device: str) -> str:
    return topics.up(device, Up.RECORDS)


@contextmanager
def device_line(site: Site, name: str) -> Iterator[Client]:
    with connected(site.place, site.place.device(name), name) as client:
        client.subscribe(topics.all_down(name))
        yield client


def next_ack(client: Client) -> Ack:
    ack = messages.decode_to_device(client.next()[1])
    assert isinstance(ack, Ack)
    return ack


def test_a_batch_is_stored_as_it_came_and_then_acknowledged(site: Site) -> None:
    site.start(site.job)
    with device_line(site, "pi-1") as client:
        client.publish(records_of("pi-1"), messages.encode(batch(7)))
        assert next_ack(client) == Ack("e1", Lane.TELEMETRY, [(7, 8)])
    assert site.stored() == [("pi-1", batch(7))]


def test_a_device_that_publishes_at_qos_0_ends_no_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.start(site.job)
    with device_line(site, "pi-1") as client:
        client.client.publish(records_of("pi-1"), messages.encode(batch(0)), qos=0)
        assert next_ack(client).ranges == [(0, 1)]
        client.publish(records_of("pi-1"), messages.encode(batch(2)))
        assert next_ack(client).ranges == [(2, 3)]
    assert [record.message for record in caplog.records if "connection to the broker ended" in record.message] == []


def test_what_cannot_be_stored_is_let_go_and_counted(site: Site) -> None:
    worker = site.start(site.job)
    with device_line(site, "pi-1") as client, device_line(site, "pi-bad") as apart, device_line(site, "pi-new") as stranger:
        client.publish(records_of("pi-1"), b"\x92\x01")
        client.publish(records_of("pi-1"), messages.encode(Status(at=START, online=True, epoch="e1")))
        apart.publish(records_of("pi-bad"), messages.encode(batch(0)))
        stranger.publish(records_of("pi-new"), messages.encode(batch(0)))
        until(lambda: sum(worker.figures.refused.values()) == 4)
        client.publish(records_of("pi-1"), messages.encode(batch(0)))
        next_ack(client)
    assert worker.figures.refused == {"malformed": 1, "wrong-kind": 1, "not-admitted": 2}
    assert (worker.figures.messages, worker.figures.rows) == (5, 2)
    assert site.stored() == [("pi-1", batch(0))]


def test_a_device_that_was_enrolled_just_now_takes_part_at_once(site: Site, sqlite_engine) -> None:
    site.start(site.job)
    with sqlite_engine.begin() as connection:
        connection.execute(insert(Device).values(_device("pi-new", None)))
    with device_line(site, "pi-new") as client:
        client.publish(records_of("pi-new"), messages.encode(batch(0)))
        assert next_ack(client).ranges == [(0, 1)]


def test_the_broker_may_come_and_go(site: Site) -> None:
    worker = site.start(site.job)
    pid = site.place.child.pid
    assert pid is not None
    worker.connected.clear()
    os.kill(pid, signal.SIGKILL)
    assert worker.connected.wait(PATIENCE_S)
    with device_line(site, "pi-1") as client:
        client.publish(records_of("pi-1"), messages.encode(batch(0)))
        assert next_ack(client).ranges == [(0, 1)]


def test_nothing_is_acknowledged_until_the_compactor_has_made_room(site: Site) -> None:
    inbox = sql.open_file(site.place.folder / sql.FILE)
    site.stack.callback(inbox.engine.dispose)
    full = inbox.append([Arrival("pi-2", 0, b"what waits")], time.time_ns() // 1_000)
    worker = site.start(replace(site.job, bounds=Bounds(backlog_bytes=5, backlog_s=3_600.0)))
    with device_line(site, "pi-1") as client:
        client.publish(records_of("pi-1"), messages.encode(batch(2)))
        until(lambda: worker.figures.slowed_s > 0)
        assert client.received.empty()
        inbox.forget(full)
        assert next_ack(client).ranges == [(2, 3)]


def test_a_worker_may_read_records_and_write_acknowledgements_alone(place: Place) -> None:
    ca = place.ca.folder
    with (
        connected(place, place.server, "fleet-server") as server,
        connected(place, Tls(ca / "ca.pem", ca / "ingest_2.pem", ca / "ingest_2.key"), "ingest_2") as worker,
        connected(place, place.device("pi-1"), "pi-1") as device,
    ):
        worker.client.subscribe([(topics.all_up(Up.STATUS), 1), (topics.down("pi-1", Down.ORDER), 1)])
        worker.subscribe(topics.all_up(Up.RECORDS))
        device.subscribe(topics.all_down("pi-1"))
        device.publish(topics.up("pi-1", Up.STATUS), b"status")
        server.publish(topics.down("pi-1", Down.ORDER), b"order")
        device.publish(records_of("pi-1"), b"record")
        assert worker.next()[1] == b"record"
        assert device.next()[1] == b"order"
        worker.client.publish(topics.down("pi-1", Down.ORDER), b"forged", qos=0)
        worker.client.publish(topics.down("pi-1", Down.ACK), b"ack", qos=0)
        assert device.next()[1] == b"ack"


def test_workers_share_the_load_and_one_that_is_killed_is_made_up_for(site: Site) -> None:
    if site.place.child.kind != "mosquitto":
        pytest.skip("the embedded broker cannot share a subscription")
    workers = [site.start(replace(site.job, number=number, workers=2)) for number in (1, 2)]
    with device_line(site, "pi-1") as client:
        for number in range(20):
            client.publish(records_of("pi-1"), messages.encode(batch(2 * number)))
        covered: set[int] = set()
        while len(covered) < 40:
            covered.update(number for first, last in next_ack(client).ranges for number in range(first, last + 1))
        assert [worker.figures.messages for worker in workers] == [10, 10]
        workers[0].stop()
        until(lambda: not workers[0].connected.is_set())
        client.publish(records_of("pi-1"), messages.encode(batch(40)))
        assert next_ack(client).ranges == [(40, 41)]
    assert {number for _, each in site.stored() for number in each.sequences} == set(range(42))
