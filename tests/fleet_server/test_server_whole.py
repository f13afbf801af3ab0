"""One whole server as a real process over each broker: a device enrols, records, fetches and outlives the broker; nothing is left behind."""

import base64
import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_contract import enrolment, messages, topics
from fleet_contract.messages import Ack, Batch, Block, Event, Lane, Message, Status, Want
from fleet_contract.mqtt import Session, Tls
from fleet_contract.topics import Up
from fleet_server import founding
from fleet_server.mqtt import mosquitto
from fleet_server.settings import Settings
from tests.fakes.device_keys import csr

pytestmark = pytest.mark.e2e

PATIENCE_S = 60.0
DEVICE = "cam-1"
KINDS = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(mosquitto.find(os.environ.get("PATH", os.defpath)) is None, reason="mosquitto is not installed"),
    ),
    "embedded",
]


@dataclass
class Running:
    """A server process that is ready, and its admin's HTTP client."""

    process: subprocess.Popen
    home: Path
    http: httpx.Client

    @property
    def state(self) -> dict:
        return json.loads((self.home / "run" / "state.json").read_bytes())

    def until(self, condition: Callable[[], bool]) -> None:
        deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
        while not condition():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the condition did not come true"
            pause.wait(0.05)


@contextmanager
def serving(folder: Path, broker: str) -> Iterator[Running]:
    home = folder / "home"
    token = founding.found(home, folder / "keys", Settings(), lambda: datetime.now(UTC))
    command = [sys.executable, "-m", "fleet_server", "up", "--home", home, "--broker", broker, "--https-port", "0", "--mqtt-port", "0"]
    context = ssl.create_default_context(cafile=home / "ca" / "ca.pem")
    headers = {"Authorization": f"Bearer {token}"}
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with httpx.Client(verify=context, headers=headers, timeout=PATIENCE_S) as http:
                running = Running(process, home, http)
                running.until((home / "run" / "state.json").exists)
                http.base_url = running.state["https_url"]
                yield running
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@dataclass
class Device:
    """An enrolled device with a session; it remembers what came down."""

    tls: Tls
    url: str
    came: queue.Queue[Message] = field(default_factory=queue.Queue)

    def session(self) -> Session:
        return Session(self.url, DEVICE, self.tls, subscriptions=[topics.all_down(DEVICE)], on_message=self._take)

    def _take(self, _topic: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        self.came.put(messages.decode_to_device(payload))


def enrol(server: Running, folder: Path) -> Device:
    asked = {"device_id": DEVICE, "profile": "generic-x86-64", "task": "toy", "lifetime_s": 600}
    token = enrolment.parse(server.http.post("/v1/enrolment-tokens", json=asked).raise_for_status().json()["token"])
    key = ec.generate_private_key(ec.SECP256R1())
    request = {"token_id": token.id, "secret": token.secret, "csr_pem": csr(DEVICE, key=key)}
    answer = server.http.post("/v1/enrol", json=request).raise_for_status().json()
    tls = Tls(folder / "d-ca.pem", folder / "d.pem", folder / "d.key")
    tls.ca.write_text(answer["ca_pem"])
    tls.certificate.write_text(answer["certificate_pem"])
    tls.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert base64.b64decode(answer["root_base64"]) == (server.home / "tuf" / "metadata" / "1.root.json").read_bytes()
    return Device(tls, answer["broker_url"])


def started(first: int) -> bytes:
    event = messages.encode_record(Event(at=datetime.now(UTC), kind="agent.started"))
    return messages.encode(Batch(epoch="e1", lane=Lane.EVENTS, first=first, records=[event]))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


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
        block = device.came.get(timeout=PATIENCE_S)
        assert isinstance(block, Block)
        assert block.data == (server.home / "tuf" / "metadata" / "timestamp.json").read_bytes()
        server.until(lambda: server.http.get(f"/v1/devices/{DEVICE}").json()["online"])

        killed = server.state["broker_pid"]
        os.kill(killed, signal.SIGKILL)
        server.until(lambda: not session.connected)
        server.until(lambda: session.connected and server.http.get("/v1/health").json()["broker"]["connected"])
        session.publish(topics.up(DEVICE, Up.RECORDS), started(1))
        assert device.came.get(timeout=PATIENCE_S) == Ack(epoch="e1", lane=Lane.EVENTS, ranges=[(1, 1)])
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
