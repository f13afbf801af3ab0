"""One whole server as a real process over each broker: a device enrols, records, fetches and outlives the broker; nothing is left behind."""

import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from fleet_contract import messages, packets, topics
from fleet_contract.messages import Ack, Lane, Packet, Status, Url, Want, WantUrl
from fleet_contract.topics import Up
from fleet_server.mqtt import mosquitto
from tests.fakes.server_process import DEVICE, PATIENCE_S, enrol, serving, started

pytestmark = pytest.mark.e2e

KINDS = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(mosquitto.find(os.environ.get("PATH", os.defpath)) is None, reason="mosquitto is not installed"),
    ),
    "embedded",
]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until_answered(send: Callable[[], object], came: queue.Queue) -> object:
    """Sent again, as devices do: a broker that has just started may have nobody yet who takes records."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        send()
        try:
            return came.get(timeout=1.0)
        except queue.Empty:
            continue
    pytest.fail("no answer came")


@pytest.mark.parametrize("broker", KINDS)
def test_device_enrols_records_fetches_and_outlives_the_broker(broker: str, tmp_path: Path) -> None:
    with serving(tmp_path, broker) as server:
        device = enrol(server, tmp_path)
        session = device.session()
        session.start()
        assert session.wait_connected(PATIENCE_S)
        session.publish(topics.up(DEVICE, Up.STATUS), messages.encode(Status(at=datetime.now(UTC), online=True, epoch="e1")), retain=True)
        session.publish(topics.up(DEVICE, Up.RECORDS), started(0))
        assert device.came.get(timeout=PATIENCE_S) == Ack(epoch="e1", lane=Lane.EVENTS, ranges=[(0, 0)])
        want = Want(request="r1", path="metadata/timestamp.json", block_bytes=32_768, need=b"\x01")
        session.publish(topics.up(DEVICE, Up.WANT), messages.encode(want))
        packet = device.came.get(timeout=PATIENCE_S)
        assert isinstance(packet, Packet)
        content = (server.home / "tuf" / "metadata" / "timestamp.json").read_bytes()
        assert packets.unpack(packet, 32_768) == [(0, content)]
        session.publish(topics.up(DEVICE, Up.WANT), messages.encode(WantUrl(request="r2", path="metadata/timestamp.json")))
        address = device.came.get(timeout=PATIENCE_S)
        assert isinstance(address, Url)
        with httpx.Client(verify=ssl.create_default_context(cafile=device.tls.ca)) as anybody:
            assert anybody.get(address.url, headers={"Range": "bytes=10-99"}).content == content[10:100]
        server.until(lambda: server.http.get(f"/v1/devices/{DEVICE}").json()["online"])

        killed = server.state["broker_pid"]
        os.kill(killed, signal.SIGKILL)
        server.until(lambda: not session.connected)
        server.until(lambda: session.connected and server.http.get("/v1/health").json()["broker"]["connected"])
        answer = until_answered(lambda: session.publish(topics.up(DEVICE, Up.RECORDS), started(1)), device.came)
        assert answer == Ack(epoch="e1", lane=Lane.EVENTS, ranges=[(1, 1)])
        assert server.state["broker_pid"] not in (killed, None)
        assert server.state["broker_url"] == device.url
        session.close()


@pytest.mark.parametrize("broker", KINDS)
def test_graceful_stop_ends_the_broker_and_clears_the_state(broker: str, tmp_path: Path) -> None:
    with serving(tmp_path, broker) as server:
        broker_pid, state = server.state["broker_pid"], server.home / "run" / "state.json"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        assert (alive(broker_pid), state.exists()) == (False, False)


@pytest.mark.parametrize("broker", KINDS)
def test_broker_ends_with_a_killed_server_and_the_next_one_starts_on_the_same_ports(broker: str, tmp_path: Path) -> None:
    with serving(tmp_path, broker) as server:
        before = server.state
        server.process.kill()
        server.process.wait(PATIENCE_S)
        gone, deadline = threading.Event(), time.monotonic() + PATIENCE_S
        while alive(before["broker_pid"]):
            assert time.monotonic() < deadline, "the broker outlived its server"
            gone.wait(0.05)
        again = [
            sys.executable,
            "-m",
            "fleet_server",
            "up",
            "--home",
            server.home,
            "--broker",
            broker,
            "--https-port",
            "0",
            "--mqtt-port",
            "0",
        ]
        with subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as second:
            server.process = second
            server.until(lambda: (server.home / "run" / "state.json").exists() and server.state["pid"] == second.pid)
            assert (server.state["https_url"], server.state["broker_url"]) == (before["https_url"], before["broker_url"])
            refused = subprocess.run(again, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            assert (refused.returncode, "already runs" in refused.stderr) == (2, True)
            second.terminate()
            assert second.wait(PATIENCE_S) == 0


def test_no_path_leads_to_a_key_and_nothing_secret_is_logged(tmp_path: Path) -> None:
    climbs = [
        f"/v1/{route}/{up}keys{slash}orders.pem"
        for route in ("tuf", "bundles", "samples")
        for up, slash in (("../../", "/"), ("..%2F..%2F", "%2F"), ("%2e%2e/%2e%2e/", "/"), ("..%5C..%5C", "%5C"), ("/", "/"))
    ]
    with serving(tmp_path, "embedded") as server:
        device = enrol(server, tmp_path)
        for path in [*climbs, "/v1/tuf/orders.pem", "/v1/tuf/0.root.json", "/v1/tuf/root.json%00", "/v1/bundles/..%2Fca.key/content"]:
            answer = server.http.get(path)
            assert answer.status_code in (404, 422), path
            assert "PRIVATE" not in answer.text
        token = server.http.headers["Authorization"].removeprefix("Bearer ")
    logs = (tmp_path / "log").read_text() + (tmp_path / "home" / "broker" / "embedded.log").read_text()
    assert token not in logs
    assert token.split("_", 2)[2] not in logs
    assert device.tls.key.read_text().splitlines()[1] not in logs
