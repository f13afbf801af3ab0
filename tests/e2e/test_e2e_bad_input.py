"""What bad input gets on a running fleet: refused, counted, reported; and nothing else is lost."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from examples.sensors import tables
from fleet_contract import messages, order, topics
from fleet_contract.mqtt import Session, Tls
from hil import watch, workbench
from hil.camera import VirtualCamera, VirtualSensor
from hil.device import DeviceRig
from hil.fleet import FleetRig
from hil.program import installed
from hil.waiting import wait_until

WAIT_S = 60.0
SHAPES_TASK = """
[task]
name = "shapes"
[input]
kind = "image"
height = 32
width = 32
channels = 1
[data]
reader = "images"
folder = "shapes"
[train]
epochs = 6
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


@dataclass(frozen=True)
class Made:
    """Two tasks and a bundle of each."""

    tissue: Path
    shapes: Path
    bundles: tuple[Path, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("tasks")
    tissue = Path(shutil.copy(Path(tables.__file__).with_name("task.toml"), folder / "tissue.toml"))
    tables.write_training(tables.deal(np.random.default_rng(1)), folder / "training.csv")
    shapes = folder / "shapes.toml"
    shapes.write_text(SHAPES_TASK)
    for at in range(120):
        (folder / "shapes" / _shape_of(at)).mkdir(parents=True, exist_ok=True)
        (folder / "shapes" / _shape_of(at) / f"{at}.png").write_bytes(_picture(at, ".png"))
    for task in (tissue, shapes):
        workbench.build(task, task.with_suffix(".bundle"), "1.0.0")
    return Made(tissue, shapes, (tissue.with_suffix(".bundle"), shapes.with_suffix(".bundle")))


@pytest.fixture
def fleet(tmp_path) -> Iterator[FleetRig]:
    with FleetRig(tmp_path / "home") as rig:
        yield rig


def _shape_of(at: int) -> str:
    return ("disc", "square")[at % 2]


def _picture(at: int, suffix: str) -> bytes:
    rng = np.random.default_rng(at)
    picture = rng.normal(60, 8, (32, 32)).clip(0, 255).astype(np.uint8)
    x, y = (int(v) for v in rng.integers(12, 20, 2))
    if _shape_of(at) == "disc":
        cv2.circle(picture, (x, y), 8, 200, -1)
    else:
        cv2.rectangle(picture, (x - 7, y - 7), (x + 7, y + 7), 200, -1)
    return cv2.imencode(suffix, picture)[1].tobytes()


def _mute(_text: str) -> None:
    return None


def _bring_up(fleet: FleetRig, made: Made, broker: str) -> None:
    fleet.start_server(broker=broker, tasks=[made.tissue, made.shapes])
    for bundle in made.bundles:
        fleet.publish(bundle)


def _until_refused(fleet: FleetRig, device: str, wanted: dict[str, int]) -> None:
    """The server has been told by events, and the device's status agrees."""

    def told() -> bool:
        total: dict[str, int] = {}
        for event in fleet.api.items("/events", device=device, kind="input.refused"):
            for reason, count in event["detail"].items():
                total[reason] = total.get(reason, 0) + count
        return total == wanted and fleet.api.get(f"/devices/{device}")["refused"] == wanted

    fleet.wait(told, f"refusals {wanted} of {device}", WAIT_S)


def test_rows_that_are_no_input_are_counted_by_reason_and_the_others_answered(tmp_path, fleet, made, broker):
    _bring_up(fleet, made, broker)
    dealt = tables.deal(np.random.default_rng(1))
    good, width = [list(row.values) for row in dealt.rest[:40]], len(dealt.columns)
    sensor = VirtualSensor(tmp_path / "rows.csv", dealt.columns)
    fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue")
    bad = [["nan", *good[0][1:]], [*good[1][:-1], "inf"], [*good[2][:-1], 1e30], ["many"] * width, good[3][:-1]]
    sensor.write([*good[:20], *bad, *good[20:]])
    _until_refused(fleet, "sensor-1", {"not-finite": 2, "out-of-range": 1, "bad-row": 2})
    fleet.wait(lambda: watch.answered(fleet.api, _mute, {"sensor-1": 40}), "the good rows", WAIT_S)
    results = [int(row["input_id"]) for row in fleet.api.items("/telemetry", device="sensor-1")]
    assert sorted(results) == [*range(1, 21), *range(26, 46)]


def test_a_file_whose_header_does_not_fit_ends_the_agent_and_the_server_knows_why(tmp_path, fleet, made, broker):
    _bring_up(fleet, made, broker)
    (tmp_path / "rows.csv").write_text("colour,weight\n1,2\n")
    rig = DeviceRig("sensor-1", f"csv:{tmp_path / 'rows.csv'}", fleet.home / "devices" / "sensor-1", fleet.logs)
    rig.enrol(fleet.api, fleet.server.state().https_url, profile="generic-x86-64", task="tissue")
    command = [installed("edge-agent"), "run", "--state", rig.state, "--source", rig.source]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=WAIT_S)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert "lacks the columns" in ended.stderr.splitlines()[-1]
    fleet.wait(lambda: [*fleet.api.items("/events", device="sensor-1", kind="agent.failed")], "the last words", WAIT_S)
    told = next(fleet.api.items("/events", device="sensor-1", kind="agent.failed"))["detail"]
    assert told["code"] == "missing-columns"
    assert "lacks the columns" in told["message"]
    fleet.wait(lambda: not fleet.api.get("/devices/sensor-1")["online"], "the goodbye", WAIT_S)
    assert not [line for line in fleet.api.items("/ledger") if line["lost"]]


def test_a_corrupt_picture_is_skipped_and_the_stream_goes_on(tmp_path, fleet, made, broker):
    _bring_up(fleet, made, broker)
    camera = VirtualCamera(tmp_path / "camera")
    fleet.add_device("camera-1", f"camera:{camera.folder}", profile="generic-x86-64", task="shapes")
    pictures = [_picture(1_000 + at, ".jpg") for at in range(30)]
    pictures[7] = pictures[7][: len(pictures[7]) // 3]
    pictures[11] = b"not a picture at all"
    pictures[13] = b""
    for picture in pictures:
        camera.write(picture)
    _until_refused(fleet, "camera-1", {"corrupt-image": 3})
    fleet.wait(lambda: watch.answered(fleet.api, _mute, {"camera-1": 27}), "the good pictures", WAIT_S)
    skipped = {f"{at + 1:06d}.jpg" for at in (7, 11, 13)}
    assert {row["input_id"] for row in fleet.api.items("/telemetry", device="camera-1")} == {
        f"{at:06d}.jpg" for at in range(1, 31)
    } - skipped


class Outsider:
    """A device with a true certificate that does what no agent would."""

    def __init__(self, fleet: FleetRig, device_id: str, *, task: str = "tissue") -> None:
        rig = DeviceRig(device_id, "csv:/dev/null", fleet.home / "devices" / device_id, fleet.logs)
        rig.enrol(fleet.api, fleet.server.state().https_url, profile="generic-x86-64", task=task)
        identity = rig.state / "identity"
        tls = Tls(ca=identity / "ca.pem", certificate=identity / "cert.pem", key=identity / "key.pem")
        self.acks: list[messages.Ack] = []
        self.id = device_id
        own = [topics.down(device_id, topics.Down.ACK)]
        self.session = Session(fleet.server.state().broker_url, device_id, tls, subscriptions=own, on_message=self._hear)
        self.session.start()
        wait_until(lambda: self.session.connected, f"{device_id} to connect", WAIT_S)

    def __enter__(self) -> "Outsider":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def say(self, kind: str, topic: str) -> None:
        """One event record, on any topic."""
        event = messages.Event(at=datetime.now(UTC), kind=kind)
        batch = messages.Batch(epoch="outsider", lane=messages.Lane.EVENTS, first=1, records=[messages.encode_record(event)])
        self.session.publish(topic, messages.encode(batch))

    def _hear(self, _topic: str, payload: bytes, acknowledge) -> None:
        message = messages.decode_to_device(payload)
        if isinstance(message, messages.Ack):
            self.acks.append(message)
        acknowledge()


def _ingested(fleet: FleetRig, outcome: str) -> float:
    text = fleet.api.metrics()
    line = next(line for line in text.splitlines() if line.startswith("edgefleet_ingest") and f'outcome="{outcome}"' in line)
    return float(line.split()[-1])


def test_a_device_can_speak_for_itself_alone(tmp_path, fleet, made, broker):
    _bring_up(fleet, made, broker)
    sensor = VirtualSensor(tmp_path / "rows.csv", tables.deal(np.random.default_rng(1)).columns)
    fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue")
    with Outsider(fleet, "outsider") as outsider:
        outsider.say("forged", topics.up("sensor-1", topics.Up.RECORDS))
        outsider.say("forged", topics.down("sensor-1", topics.Down.ORDER))
        fleet.wait(lambda: outsider.session.connected, "the outsider's return, if the broker threw it out", WAIT_S)
        outsider.session.publish(topics.up("outsider", topics.Up.RECORDS), b"\x92\x63\xc0")
        fleet.wait(lambda: _ingested(fleet, "unknown_version") == 1, "the unknown version to be counted", WAIT_S)
        outsider.say("own", topics.up("outsider", topics.Up.RECORDS))
        fleet.wait(lambda: outsider.acks, "the acknowledgement of what it said on its own topic", WAIT_S)
    assert [event["kind"] for event in fleet.api.items("/events", device="outsider")] == ["own"]
    assert "forged" not in {event["kind"] for event in fleet.api.items("/events", device="sensor-1")}
    assert fleet.api.get("/devices/sensor-1")["online"]


def _enrol(fleet: FleetRig, state: Path, token: str, device: str) -> subprocess.CompletedProcess[str]:
    command = [installed("edge-agent"), "enrol", "--server", fleet.server.state().https_url, "--token", token, "--device", device]
    return subprocess.run([*command, "--state", str(state)], capture_output=True, text=True, timeout=WAIT_S)


def test_a_token_makes_its_own_device_once_and_in_time(tmp_path, fleet, made):
    fleet.start_server(broker="auto", tasks=[made.tissue])
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
def open_broker(fleet) -> Iterator[str]:
    """A Mosquitto that knows the fleet's CA but lets every identity publish everywhere: what a hostile or misconfigured broker would do."""
    mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
    if mosquitto is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
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


def test_orders_that_are_not_for_the_device_are_refused_even_if_the_broker_lets_them_through(tmp_path, fleet, made, open_broker):
    fleet.start_server(broker=open_broker, tasks=[made.tissue, made.shapes])
    fleet.publish(made.bundles[0])
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
    with Outsider(fleet, "outsider") as outsider:
        for code, envelopes in forgeries.items():
            for count, envelope in enumerate(envelopes, start=1):
                outsider.session.publish(topics.down("sensor-1", topics.Down.ORDER), envelope, retain=True)
                fleet.wait(lambda code=code, count=count: _rejections(fleet).count(code) == count, f"the refusal {code}", WAIT_S)
    device = fleet.api.get("/devices/sensor-1")
    assert device["bundle"] == bundle["sha256"]
    assert device["order_counter"] == device["issued_counter"]


def _signed(true: order.Order, key: Ed25519PrivateKey, **changes) -> bytes:
    fields = {name: getattr(true, name) for name in true.__struct_fields__}
    return order.sign(order.Order(**{**fields, **changes}), key)


def _rejections(fleet: FleetRig) -> list[str]:
    return [event["detail"]["code"] for event in fleet.api.items("/events", device="sensor-1", kind="order.rejected")]
