"""The agent's own delivery against a whole server: many at once in a shared pass, and by HTTPS ranges."""

import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.delivery.downloads import Downloads, Ways
from edge_agent.delivery.exchange import Exchange
from edge_agent.delivery.http import Http
from edge_agent.delivery.one_to_one import OneToOne
from edge_agent.delivery.pace import Manners
from edge_agent.delivery.ports import Fetched, Wish
from edge_agent.delivery.shared_pass import SharedPass
from edge_agent.link.mqtt import Handlers, MqttLink
from fleet_contract import limits
from fleet_server.mqtt import mosquitto
from fleet_server.trust.device_ca import DeviceCa
from tests.fakes.device_keys import identity
from tests.fakes.served_file import serving_file, target_of
from tests.fakes.server_process import PATIENCE_S, Running

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(mosquitto.find(os.environ["PATH"]) is None, reason="mosquitto is not installed")]

CONTENT = os.urandom(5 * limits.MIB)
TARGET = target_of(CONTENT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving_file(tmp_path_factory.mktemp("fleet"), TARGET, CONTENT) as running:
        yield running


class Device:
    """A certificate of the fleet's CA, a connection, and the agent's delivery over it."""

    def __init__(self, server: Running, name: str, folder: Path, manners: Manners) -> None:
        tls = identity(DeviceCa(server.home / "ca", "demo", lambda: datetime.now(UTC)), name, folder / name)
        clock, connected = SystemClock(), threading.Event()
        self.link = MqttLink(server.state["broker_url"], name, tls, epoch="e1", at=clock.now())
        exchange = Exchange(self.link, clock, new_id=lambda: secrets.token_hex(8))
        ways = Ways(SharedPass(exchange), OneToOne(exchange), Http(exchange, clock, tls.context))
        self.downloads = Downloads(ways, {}.__getitem__, manners, clock)
        self.part = folder / name / "part"
        self.link.start(Handlers(lambda _: None, lambda _: None, exchange.receive, exchange.receive_shared, connected.set))
        assert connected.wait(PATIENCE_S)

    def bring(self) -> Fetched:
        return self.downloads.bring(TARGET, self.part, (), Wish())


def counted(server: Running, outcome: str) -> float:
    lines = server.http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f'edgefleet_ingest_total{{outcome="{outcome}"}}'))


def test_devices_that_want_one_bundle_at_once_share_one_pass(server: Running, tmp_path: Path) -> None:
    with ExitStack() as closing:
        devices = [Device(server, f"cam-{number}", tmp_path, Manners()) for number in range(4)]
        for device in devices:
            closing.callback(device.link.close)
        with ThreadPoolExecutor(len(devices)) as pool:
            fetched = [*pool.map(Device.bring, devices)]
    assert {(one.fetched_bytes, one.way) for one in fetched} == {(len(CONTENT), "mqtt")}
    assert all(device.part.read_bytes() == CONTENT for device in devices)
    assert counted(server, "blocks_shared") < 2 * TARGET.index.count


def test_a_device_that_prefers_https_reads_ranges_with_its_permit(server: Running, tmp_path: Path) -> None:
    with ExitStack() as closing:
        device = Device(server, "web-1", tmp_path, Manners(transport="http"))
        closing.callback(device.link.close)
        device.part.write_bytes(CONTENT[: len(CONTENT) // 2])
        fetched = device.bring()
    assert (fetched.way, device.part.read_bytes() == CONTENT) == ("http", True)
    assert fetched.reused_bytes > 0
    assert counted(server, "urls_sent") >= 1
