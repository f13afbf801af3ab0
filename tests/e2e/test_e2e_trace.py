"""One record is followed through a whole server: asked for over HTTP, told by the device, kept, and handed to a collector. And a device is deleted,
with what it recorded."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.link.mqtt import Handlers, MqttLink
from edge_agent.link.uplink import Uplink
from edge_agent.outbox.store import Outbox
from edge_agent.ports import Reading
from fleet_contract.messages import Follow, Result, Status
from fleet_server.mqtt import mosquitto
from tests.fakes.otlp_receiver import Receiver, receiving
from tests.fakes.server_process import DEVICE, PATIENCE_S, Running, enrol, serving

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(mosquitto.find(os.environ["PATH"]) is None, reason="mosquitto is not installed")]

STEPS = ["record", "infer", "commit", "wait", "deliver", "store"]
LATENCY_US = 2_500
SKEW = timedelta(seconds=60)
"""Between two clocks of one machine that read it at different times there is less."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Receiver) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        with serving(tmp_path_factory.mktemp("fleet"), "mosquitto") as running:
            yield running


class Device:
    """Outbox, uplink and link of the agent."""

    def __init__(self, server: Running, folder: Path, closing: ExitStack) -> None:
        enrolled, clock, connected = enrol(server, folder), SystemClock(), threading.Event()
        self.store = Outbox(folder / "outbox.db", new_epoch=lambda: secrets.token_hex(8), read=_reading)
        closing.callback(self.store.close)
        self.asked = threading.Event()
        link = MqttLink(enrolled.url, DEVICE, enrolled.tls, epoch=self.store.epoch, at=clock.now())
        closing.callback(link.close)
        uplink = Uplink(self.store, link, clock, lambda: Status(at=clock.now(), online=True, epoch=self.store.epoch))
        self.store.listen(uplink.on_append)
        nothing = Handlers(lambda _: None, uplink.on_ack, lambda _: None, lambda *_: None, connected.set, self._follow)
        link.start(nothing)
        assert connected.wait(PATIENCE_S)
        uplink.start()
        closing.callback(uplink.close)

    def infer(self, name: str, follow: Follow | None = None) -> None:
        result = Result(datetime.now(UTC), "b" * 64, name, "yes", 0.5, LATENCY_US)
        assert self.store.submit([result], follow=follow)

    def _follow(self, follow: Follow) -> None:
        self.store.follow(follow)
        self.asked.set()


def _reading() -> Reading:
    return Reading(datetime.now(UTC), time.monotonic_ns() // 1_000, "boot-1", "trusted")


def ended(server: Running, trace: str) -> dict:
    server.until(lambda: server.http.get(f"/v1/traces/{trace}").json().get("complete", False))
    return server.http.get(f"/v1/traces/{trace}").json()


def test_one_record_is_followed_from_the_device_into_the_lake(tmp_path: Path, server: Running, collector: Receiver) -> None:
    with ExitStack() as closing:
        device = Device(server, tmp_path, closing)
        server.until(lambda: server.http.get(f"/v1/devices/{DEVICE}").json()["online"])
        before = datetime.now(UTC)
        asked = server.http.post(f"/v1/devices/{DEVICE}/trace").raise_for_status().json()["id"]
        assert device.asked.wait(PATIENCE_S)
        device.infer("followed")
        _check(ended(server, asked)["spans"], ["follow", *STEPS], before)

        own = Follow(id=secrets.token_hex(16), parent=secrets.token_hex(8))
        device.infer("traceparent", own)
        spans = ended(server, own.id)["spans"]
        _check(spans, STEPS, before)
        assert spans[0]["parent"] == own.parent, "a caller's own span stands above"
        server.until(lambda: {span.trace for span in collector.spans} == {asked, own.id})
    assert {span.name for span in collector.spans if span.trace == own.id} == {*STEPS}


def test_a_deleted_device_leaves_nothing_in_the_lake(tmp_path: Path, server: Running) -> None:
    files = server.home / "lake" / "results"
    with ExitStack() as closing:
        device = Device(server, tmp_path, closing)
        device.infer("soon gone")
        server.until(lambda: "soon gone" in [row["input_id"] for row in results(server)])
        server.http.delete(f"/v1/devices/{DEVICE}").raise_for_status()
        server.until(lambda: bool(server.http.get("/v1/deletions").json()["items"][0]["done_at"]))
    assert results(server) == []
    assert list(files.rglob("*.parquet")) == []
    done = [entry["action"] for entry in server.http.get("/v1/audit?limit=1000").json()["items"] if entry["subject"] == DEVICE]
    assert done[-2:] == ["device.delete", "device.forget"]


def results(server: Running) -> list[dict]:
    return server.http.get("/v1/telemetry").raise_for_status().json()["items"]


def _check(spans: list[dict], names: list[str], since: datetime) -> None:
    assert [span["name"] for span in spans] == names
    bounds = [(datetime.fromisoformat(span["begin"]), datetime.fromisoformat(span["end"])) for span in spans]
    assert all(since - SKEW < begin <= end < datetime.now(UTC) + SKEW for begin, end in bounds)
    infer = bounds[names.index("infer")]
    assert infer[1] - infer[0] == timedelta(microseconds=LATENCY_US)
