"""A running broker of ours with a CA of its own, and raw MQTT clients that obey no rule."""

import os
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fleet_contract.mqtt import Backoff, Tls
from fleet_server.mqtt import mosquitto
from fleet_server.mqtt.admission import CRL_FILE
from fleet_server.mqtt.listener import Listener
from fleet_server.mqtt.supervisor import BrokerChild
from fleet_server.running import free_port
from fleet_server.storage import make_folder, write_atomic
from fleet_server.trust import device_ca
from fleet_server.trust.device_ca import DeviceCa
from tests.fakes.device_keys import identity

SEARCH_PATH = os.environ.get("PATH", os.defpath)
PATIENCE_S = 15.0
MOSQUITTO = pytest.param("mosquitto", marks=pytest.mark.skipif(mosquitto.find(SEARCH_PATH) is None, reason="mosquitto is not installed"))
KINDS = [MOSQUITTO, "embedded"]


@dataclass
class Place:
    """A running broker, the CA behind it, and who may connect."""

    child: BrokerChild
    ca: DeviceCa
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.port}"

    @property
    def server(self) -> Tls:
        return Tls(self.ca.folder / "ca.pem", self.ca.folder / "fleet-server.pem", self.ca.folder / "fleet-server.key")

    def device(self, name: str, folder: str | None = None) -> Tls:
        return identity(self.ca, name, self.folder / (folder or name))


def new_place(kind: str, folder: Path, on_started: Callable[[int], None] = lambda pid: None) -> Place:
    ca = device_ca.create(folder / "ca", "demo", lambda: datetime.now(UTC))
    ca.renew_own(["localhost", "127.0.0.1"])
    port = free_port("127.0.0.1", 0, 0, "mqtt_port")
    files = (str(ca.folder / name) for name in ("ca.pem", "server.pem", "server.key"))
    listener = Listener("127.0.0.1", port, *files, str(folder / "broker"), crl=str(folder / "broker" / CRL_FILE))
    write_atomic(make_folder(folder / "broker", 0o700) / CRL_FILE, ca.revocation_list([]))
    place = Place(None, ca, folder, port)
    place.child = BrokerChild(kind, listener, place.server, search_path=SEARCH_PATH, backoff=Backoff(0.05, 0.2), on_started=on_started)
    return place


class Client:
    """A plain MQTT 3.1.1 client that obeys no rule of ours."""

    def __init__(self, place: Place, tls: Tls, client_id: str = "anything", *, clean: bool = True, username: str | None = None) -> None:
        self.received: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self.refused: int | None = None
        self.gone, self._connected = threading.Event(), threading.Event()
        self._granted: queue.Queue[list] = queue.Queue()
        self._place = place
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv311,
            clean_session=clean,
            reconnect_on_failure=False,
        )
        context = ssl.create_default_context(cafile=str(tls.ca))
        context.load_cert_chain(tls.certificate, tls.key)
        self.client.tls_set_context(context)
        if username:
            self.client.username_pw_set(username, "secret")
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self.gone.set()
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self._granted.put(codes)
        self.client.on_message = lambda _c, _u, m: self.received.put((m.topic, m.payload, m.retain))

    def _on_connect(self, _client, _userdata, _flags, reason, _properties) -> None:
        self.refused = reason.value if reason.is_failure else None
        self._connected.set()

    def connect(self) -> "Client":
        self.client.connect("localhost", self._place.port, 20)
        self.client.loop_start()
        assert self._connected.wait(PATIENCE_S), "no CONNACK"
        return self

    def try_to_connect(self) -> bool:
        """Whether the broker lets it in. Raises OSError."""
        self.client.connect("localhost", self._place.port, 20)
        self.client.loop_start()
        until(lambda: self._connected.is_set() or self.gone.is_set())
        return self._connected.is_set() and self.refused is None

    def subscribe(self, *filters: str) -> list:
        self.client.subscribe([(each, 1) for each in filters])
        return self._granted.get(timeout=PATIENCE_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def next(self) -> tuple[str, bytes, bool]:
        return self.received.get(timeout=PATIENCE_S)

    def until_marker(self) -> list[bytes]:
        """The payloads that came before the next b"marker"."""
        return list(iter(lambda: self.next()[1], b"marker"))

    def cut(self) -> None:
        """Vanish without a DISCONNECT, as in a power cut."""
        self.client.socket().shutdown(2)
        self.client.loop_stop()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def connected(place: Place, tls: Tls, client_id: str = "anything", **options) -> Iterator[Client]:
    client = Client(place, tls, client_id, **options).connect()
    try:
        yield client
    finally:
        client.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        pause.wait(0.02)
