"""A whole server as a real process, and one enrolled device that talks to it."""

import base64
import json
import queue
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
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_contract import batches, enrolment, messages, topics
from fleet_contract.messages import Event, Lane, Message
from fleet_contract.mqtt import Session, Tls
from fleet_server import founding
from fleet_server.settings import Settings
from tests.fakes.device_keys import csr

PATIENCE_S = 60.0
DEVICE = "cam-1"


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


def found(folder: Path, settings: Settings = Settings()) -> str:
    """Make `folder`/home, with its offline keys beside it; returns the admin token."""
    return founding.found(folder / "home", folder / "keys", settings, lambda: datetime.now(UTC))


@contextmanager
def serving(folder: Path, broker: str, token: str | None = None) -> Iterator[Running]:
    """The server of `folder`/home, made first unless the `token` of one that is there is given."""
    home = folder / "home"
    token = token or found(folder)
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
    return messages.encode(batches.make("e1", Lane.EVENTS, first, [Event(at=datetime.now(UTC), kind="agent.started")]))
