"""Over a slow link, records are acknowledged while a bundle comes: the agent's own uplink and delivery against a whole server."""

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
from edge_agent.delivery.ports import Wish
from edge_agent.delivery.shared_pass import SharedPass
from edge_agent.link.mqtt import Handlers, MqttLink
from edge_agent.link.uplink import Uplink
from fleet_contract import limits
from fleet_contract.messages import Event, Lane, Status
from fleet_server.mqtt import mosquitto
from tests.fakes.agent_outbox import open_outbox
from tests.fakes.served_file import serving_file, target_of
from tests.fakes.server_process import DEVICE, PATIENCE_S, Running, enrol
from tests.fakes.slow_link import slow_link

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(mosquitto.find(os.environ["PATH"]) is None, reason="mosquitto is not installed")]

CONTENT = os.urandom(3 * limits.MIB)
TARGET = target_of(CONTENT)
LINK_BYTES_PER_S = 400_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving_file(tmp_path_factory.mktemp("fleet"), TARGET, CONTENT) as running:
        yield running


class Device:
    """What of the agent uses the link."""

    def __init__(self, server: Running, folder: Path, manners: Manners, closing: ExitStack) -> None:
        tls, url = enrol(server, folder).tls, server.state["broker_url"]
        host, port = url.rsplit(":", 1)
        url = f"{host}:{closing.enter_context(slow_link(int(port), LINK_BYTES_PER_S))}"
        clock, connected = SystemClock(), threading.Event()
        self.store = open_outbox(folder / "outbox.db", epoch=secrets.token_hex(8))
        closing.callback(self.store.close)
        link = MqttLink(url, DEVICE, tls, epoch=self.store.epoch, at=clock.now())
        closing.callback(link.close)
        exchange = Exchange(link, clock, new_id=lambda: secrets.token_hex(8))
        uplink = Uplink(self.store, link, clock, lambda: Status(at=clock.now(), online=True, epoch=self.store.epoch))
        ways = Ways(SharedPass(exchange), OneToOne(exchange), Http(exchange, clock, tls.context))
        self.downloads = Downloads(ways, {}.__getitem__, manners, clock, busy=uplink.is_behind)
        self._part = folder / "part"
        link.start(Handlers(lambda _: None, uplink.on_ack, exchange.receive, exchange.receive_shared, connected.set))
        assert connected.wait(PATIENCE_S)
        uplink.start()
        closing.callback(uplink.close)

    def bring(self) -> None:
        self.downloads.bring(TARGET, self._part, (), Wish())

    def record(self) -> None:
        self.store.append([Event(at=datetime.now(UTC), kind="agent.started")])

    @property
    def waiting(self) -> int:
        return self.store.ledger()[Lane.EVENTS].queued

    def share(self) -> float:
        """Of the file that is here."""
        download = self.downloads.download
        return download.done_bytes / download.length_bytes if download else 0.0


@pytest.mark.parametrize("manners", [pytest.param(Manners(), id="shared pass"), pytest.param(Manners(metered=True), id="alone")])
def test_records_are_acknowledged_long_before_a_download_ends(server: Running, tmp_path: Path, manners: Manners) -> None:
    with ExitStack() as closing, ThreadPoolExecutor(1) as pool:
        device = Device(server, tmp_path, manners, closing)
        coming = pool.submit(device.bring)
        server.until(lambda: device.share() >= 0.3)
        device.record()
        server.until(lambda: not device.waiting or coming.done())
        share = device.share()
        assert not coming.done()
        assert share < 0.8
        coming.result(PATIENCE_S)
