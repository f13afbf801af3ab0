"""Who may speak for whom, and who may join: tokens, topics and orders on a running fleet."""

import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from examples.sensors import tables
from fleet_contract import order, topics
from hil import watch
from hil.camera import VirtualSensor
from hil.fleet import FleetRig
from hil.outsider import Outsider
from hil.program import installed
from hil.waiting import wait_until

WAIT_S = 60.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def _refused(fleet: FleetRig, reason: str) -> float:
    lines = (line for line in fleet.api.metrics().splitlines() if line.startswith("edgefleet_ingest_refused_total{"))
    return sum(float(line.split()[-1]) for line in lines if f'reason="{reason}"' in line)


def test_a_device_can_speak_for_itself_alone(tmp_path, fleet, tissue, broker):
    fleet.start_server(broker=broker, tasks=[tissue.task])
    sensor = VirtualSensor(tmp_path / "rows.csv", tables.deal(np.random.default_rng(1)).columns)
    fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue")
    fleet.wait(lambda: fleet.api.get("/devices/sensor-1")["online"], "sensor-1 to be online", WAIT_S)
    now = datetime.now(UTC)
    with Outsider(fleet, "outsider", task="tissue") as outsider:
        outsider.say("forged", topics.up("sensor-1", topics.Up.RECORDS), now)
        outsider.say("forged", topics.down("sensor-1", topics.Down.ORDER), now)
        outsider.wait_connected()
        outsider.publish(topics.up("outsider", topics.Up.RECORDS), b"\x92\x63\xc0")
        fleet.wait(lambda: _refused(fleet, "unknown-version") == 1, "the unknown version to be counted", WAIT_S)
        outsider.say("own", topics.up("outsider", topics.Up.RECORDS), now)
        fleet.wait(lambda: outsider.acks, "the acknowledgement of what it said on its own topic", WAIT_S)
        fleet.wait(lambda: [*fleet.api.items("/events", device="outsider")], "the same to be stored", WAIT_S)
    assert [event["kind"] for event in fleet.api.items("/events", device="outsider")] == ["own"]
    assert "forged" not in {event["kind"] for event in fleet.api.items("/events", device="sensor-1")}
    assert fleet.api.get("/devices/sensor-1")["online"]


def _enrol(fleet: FleetRig, state: Path, token: str, device: str) -> subprocess.CompletedProcess[str]:
    command = [installed("edge-agent"), "enrol", "--server", fleet.server.state().https_url, "--token", token, "--device", device]
    return subprocess.run([*command, "--state", str(state)], capture_output=True, text=True, timeout=WAIT_S)


def test_a_token_makes_its_own_device_once_and_in_time(tmp_path, fleet, tissue):
    fleet.start_server(broker="auto", tasks=[tissue.task])
    wish = {"device_id": "sensor-1", "profile": "generic-x86-64", "task": "tissue", "lifetime_s": 600}
    token = fleet.api.post("/enrolment-tokens", wish)["token"]
    late = fleet.api.post("/enrolment-tokens", {**wish, "device_id": "sensor-2", "lifetime_s": 1})
    tries = {
        "another device": _enrol(fleet, tmp_path / "other", token, "sensor-9"),
        "an id outside the charset": _enrol(fleet, tmp_path / "other", token, "Sensor_1"),
        "no token": _enrol(fleet, tmp_path / "other", token[:-1], "sensor-1"),
        "the right one": _enrol(fleet, tmp_path / "one", token, "sensor-1"),
        "used": _enrol(fleet, tmp_path / "other", token, "sensor-1"),
    }
    wait_until(lambda: datetime.now(UTC) > datetime.fromisoformat(late["expires_at"]), "the token to expire", WAIT_S)
    tries["expired"] = _enrol(fleet, tmp_path / "other", late["token"], "sensor-2")
    assert {name: (done.returncode, done.stderr.strip().rsplit("[", 1)[-1]) for name, done in tries.items()} == {
        "another device": (1, "bad-request]"),
        "an id outside the charset": (2, "bad-name]"),
        "no token": (2, "bad-token]"),
        "the right one": (0, ""),
        "used": (1, "token-used]"),
        "expired": (1, "token-expired]"),
    }
    assert not (tmp_path / "other" / "identity").exists()
    assert [device["id"] for device in fleet.api.items("/devices")] == ["sensor-1"]
    said = "".join(done.stdout + done.stderr for done in tries.values()) + (fleet.logs / "server.log").read_text()
    assert not [secret for secret in (token.split(".")[2], late["token"].split(".")[2], fleet.server.token) if secret in said]


@pytest.fixture
def open_broker(fleet, mosquitto) -> Iterator[str]:
    """A Mosquitto that knows the fleet's CA but lets every identity publish everywhere: what a hostile or misconfigured broker would do."""
    fleet.server.initialise("demo")
    ca, port = fleet.server.home / "ca", _free_port()
    lines = [f"listener {port} 127.0.0.1", f"cafile {ca / 'ca.pem'}", f"certfile {ca / 'server.pem'}", f"keyfile {ca / 'server.key'}"]
    config = fleet.home / "open.conf"
    config.write_text("\n".join([*lines, "require_certificate true", "use_identity_as_username true", "user root", ""]))
    with subprocess.Popen([mosquitto, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"mqtts://localhost:{port}"
        process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_orders_that_are_not_for_the_device_are_refused_even_if_the_broker_lets_them_through(tmp_path, fleet, tissue, open_broker):
    fleet.start_server(broker=open_broker, tasks=[tissue.task])
    fleet.publish(tissue.bundle)
    dealt = tables.deal(np.random.default_rng(1))
    sensor = VirtualSensor(tmp_path / "rows.csv", dealt.columns)
    sensor.write([row.values for row in dealt.rest[:20]])
    fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue")
    bundle = next(fleet.api.items("/bundles"))
    fleet.wait(lambda: watch.committed(fleet.api, _mute, bundle["sha256"], ("sensor-1",)), "the bundle in use", WAIT_S)

    key = load_pem_private_key((fleet.server.home / "keys" / "orders.pem").read_bytes(), None)
    now = datetime.now(UTC)
    true = order.Order(
        device="sensor-1",
        profile="generic-x86-64",
        counter=1_000,
        issued_at=now,
        not_after=now + timedelta(hours=1),
        target_path=bundle["target_path"],
        sha256=bundle["sha256"],
        length=bundle["length"],
    )
    forgeries = {
        "order-misdirected": [_signed(true, key, device="sensor-2"), _signed(true, key, profile="generic-arm64")],
        "order-replayed": [_signed(true, key, counter=0)],
        "order-expired": [_signed(true, key, issued_at=now - timedelta(hours=2), not_after=now - timedelta(hours=1))],
        "order-forgery": [_signed(true, Ed25519PrivateKey.generate())],
        "bad-order": [b"{}"],
    }
    with Outsider(fleet, "outsider", task="tissue") as outsider:
        for code, envelopes in forgeries.items():
            for count, envelope in enumerate(envelopes, start=1):
                outsider.publish(topics.down("sensor-1", topics.Down.ORDER), envelope, retain=True)
                fleet.wait(lambda code=code, count=count: _rejections(fleet).count(code) == count, f"the refusal {code}", WAIT_S)
    device = fleet.api.get("/devices/sensor-1")
    assert device["bundle"] == bundle["sha256"]
    assert device["order_counter"] == device["issued_counter"]


def _signed(true: order.Order, key: Ed25519PrivateKey, **changes) -> bytes:
    fields = {name: getattr(true, name) for name in true.__struct_fields__}
    return order.sign(order.Order(**{**fields, **changes}), key)


def _mute(_text: str) -> None:
    return None


def _rejections(fleet: FleetRig) -> list[str]:
    return [event["detail"]["code"] for event in fleet.api.items("/events", device="sensor-1", kind="order.rejected")]
