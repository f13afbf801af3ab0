"""A device that floods a real broker: it is kept out for a while, others notice nothing, and what it held back is taken when it returns."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, update

from fleet_contract import batches, messages, topics
from fleet_contract.messages import Event, Lane
from fleet_contract.topics import Up
from fleet_server.domain.flood import Rules
from fleet_server.ingest import running
from fleet_server.ingest.running import Job
from fleet_server.ingest.worker import Worker
from fleet_server.mqtt.admission import Admission
from fleet_server.services import quarantine
from fleet_server.tables import database
from fleet_server.tables.device import Device
from tests.fakes.server_broker import MOSQUITTO, PATIENCE_S, Client, Place, connected, new_place, until

RULES = Rules(messages_per_s=50, patience_s=1.0)


def now() -> datetime:
    return datetime.now(UTC)


class Site:
    """A broker, one worker with strict rules, and the part of the server that tells the broker whom to keep out."""

    def __init__(self, kind: str, folder: Path, engine: Engine, stack: ExitStack) -> None:
        self.engine = engine
        self.place: Place = new_place(kind, folder)
        self.admission = Admission(lambda: quarantine.excluded(engine, now()), self.place.ca, folder / "broker")
        self.place.child.start()
        stack.callback(self.place.child.close)
        self.place.ca.renew_worker(1)
        with engine.begin() as connection:
            devices = [Device(id=name, profile="p", task="t", enrolled_at=now()).model_dump(exclude_none=True) for name in ("good", "bad")]
            connection.execute(insert(Device), devices)
        url = database.sqlite_url(Path(engine.url.database))
        self.worker: Worker = running.assemble(Job(folder, 1, self.place.url, url, flood=RULES), stack)
        thread = threading.Thread(target=self.worker.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.worker.stop)
        assert self.worker.connected.wait(PATIENCE_S)

    def excludes(self, device: str) -> bool:
        self.admission.renew(self.place.child.exclude)
        return not self.admission.may(device)


@pytest.fixture(params=[MOSQUITTO])
def site(request: pytest.FixtureRequest, tmp_path: Path, sqlite_engine: Engine) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(request.param, tmp_path, sqlite_engine, stack)


def send(client: Client, device: str, first: int) -> None:
    batch = batches.make("e1", Lane.EVENTS, first, [Event(at=now(), kind="x")])
    client.client.publish(topics.up(device, Up.RECORDS), messages.encode(batch), qos=1)


def is_answered(client: Client, device: str, first: int) -> bool:
    send(client, device, first)
    return not client.received.empty()


def test_a_flood_is_kept_out_and_others_are_not(site: Site) -> None:
    with connected(site.place, site.place.device("good"), "good") as good, connected(site.place, site.place.device("bad"), "bad") as bad:
        for client, name in ((good, "good"), (bad, "bad")):
            client.subscribe(topics.all_down(name))
        for number in range(300):
            send(bad, "bad", number)
        until(lambda: site.excludes("bad"))
        assert site.worker.figures.refused["flood"] > 0
        assert not site.excludes("good")
        until(lambda: is_answered(good, "good", 0))
        while not bad.received.empty():
            bad.next()
        assert not is_answered(bad, "bad", 300)
        with site.engine.begin() as connection:
            connection.execute(update(Device).values(throttled_until=now() - timedelta(seconds=1)).where(Device.id == "bad"))
        until(lambda: not site.excludes("bad"))
        until(lambda: is_answered(bad, "bad", 300))
