"""Mosquitto without TLS on a loopback port, as a gateway has one for its own programs."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from fleet_server.mqtt import mosquitto

PATIENCE_S = 15.0
MISSING = mosquitto.find(os.environ.get("PATH", os.defpath)) is None
needed = pytest.mark.skipif(MISSING, reason="mosquitto is not installed")


@dataclass
class LocalBroker:
    """`start` and `stop` keep the port."""

    folder: Path
    port: int
    more: tuple[str, ...] = ()
    subscriptions: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """One for each that was answered."""
    _child: subprocess.Popen[bytes] | None = None
    _log: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        configuration = self.folder / "mosquitto.conf"
        lines = (f"listener {self.port} 127.0.0.1", "log_dest stderr", "user root", *(self.more or ("allow_anonymous true",)), "")
        configuration.write_text("\n".join(lines))
        program = mosquitto.find(os.environ.get("PATH", os.defpath)) or ""
        ready = threading.Event()
        child = self._child = subprocess.Popen([program, "-v", "-c", str(configuration)], stderr=subprocess.PIPE)
        self._log = threading.Thread(target=self._follow, args=(child, ready))
        self._log.start()
        assert ready.wait(PATIENCE_S), "mosquitto did not start"

    def stop(self) -> None:
        if self._child is not None and self._log is not None:
            self._child.terminate()
            self._child.wait(PATIENCE_S)
            self._log.join()
            self._child = None

    def wait_subscribed(self) -> None:
        """Until one more subscription was answered."""
        assert self.subscriptions.acquire(timeout=PATIENCE_S), "nobody subscribed"

    def _follow(self, child: subprocess.Popen[bytes], ready: threading.Event) -> None:
        assert child.stderr is not None
        with child.stderr:
            for line in child.stderr:
                if b"running" in line:
                    ready.set()
                if b"Sending SUBACK" in line:
                    self.subscriptions.release()

    def publish(self, topic: str, *payloads: bytes, user: str | None = None, password: str | None = None) -> None:
        """At QoS 1; back when the broker has taken all."""
        client = paho.Client(CallbackAPIVersion.VERSION2)
        if user:
            client.username_pw_set(user, password)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        try:
            for payload in payloads:
                client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE_S)
        finally:
            client.disconnect()
            client.loop_stop()


@contextmanager
def running(folder: Path, *more: str) -> Iterator[LocalBroker]:
    """`more` are lines of its configuration; with any, it is they who say who may connect."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    broker = LocalBroker(folder, port, more)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
