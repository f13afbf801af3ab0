"""A fleet server's parts that orders go through, as the server puts them together: broker, link, control loop, intake of statuses, database."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, func, insert, select, update

from fleet_contract.broker import Tls
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_server.control_loop import ControlLoop
from fleet_server.fleet import Fleet
from fleet_server.jobs.local import LocalRunner
from fleet_server.mqtt.counts import Counts
from fleet_server.mqtt.link import FleetLink
from fleet_server.mqtt.listener import Listener
from fleet_server.mqtt.statuses import StatusIntake
from fleet_server.mqtt.supervisor import BrokerChild
from fleet_server.ports import BrokerState
from fleet_server.running import free_port
from fleet_server.services import statuses
from fleet_server.services.control import Control
from fleet_server.tables import database
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.device import Device
from fleet_server.trust import device_ca
from fleet_server.trust.device_ca import SERVER_IDENTITY, WORKER_IDENTITIES, DeviceCa
from fleet_server.trust.keys import OnlineKeys
from fleet_server.trust.orders import Ed25519OrderSigner
from fleet_server.trust.permits import Permits
from fleet_server.trust.repository import TufRepository

PEER = WORKER_IDENTITIES[0]
TASK, BUNDLE = "fan", "a" * 64
_CONNECTION_S = 15.0


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Broker:
    """Implements ports.Broker."""

    url: str

    def state(self) -> BrokerState:
        return BrokerState("mosquitto", self.url, True, "5", None)


@dataclass(frozen=True)
class Stage:
    folder: Path
    port: int
    fleet: Fleet
    loop: ControlLoop
    devices: list[str]

    @property
    def engine(self) -> Engine:
        return self.fleet.engine

    @property
    def peer(self) -> Tls:
        """A worker's identity: it may write to devices."""
        return _identity(self.folder, PEER)

    def behind(self) -> int:
        """Devices whose newest order is not known to be theirs."""
        late = (Device.issued_counter == 0) | (Device.order_counter < Device.issued_counter) | Device.desired_bundle.is_(None)
        with database.reading(self.engine) as connection:
            return connection.execute(select(func.count()).select_from(Device).where(late)).scalar_one()

    def forget(self) -> None:
        """Nobody runs anything, or shall."""
        with database.writing(self.engine) as connection:
            connection.execute(update(Device).values(desired_bundle=None, desired_rollout=None, bundle=None))


@contextmanager
def running(folder: Path, database_url: str | None, count: int) -> Iterator[Stage]:
    with ExitStack() as stack:
        engine = database.connect(database_url or database.sqlite_url(folder / "fleet.db"))
        stack.callback(engine.dispose)
        database.migrate(engine)
        ca = device_ca.create(folder / "ca", "bench", now)
        ca.renew_own(["localhost", "127.0.0.1"])
        ca.renew_worker(1)
        devices = _identities(folder / "devices", ca, count)
        _fill(engine, devices)
        port = free_port("127.0.0.1", 0, 0, "mqtt_port")
        files = (str(folder / "ca" / name) for name in ("ca.pem", "server.pem", "server.key"))
        listener = Listener("127.0.0.1", port, *files, str(folder / "broker"))
        child = BrokerChild("mosquitto", listener, _identity(folder), search_path=os.environ.get("PATH", os.defpath))
        stack.callback(child.close)
        child.start()
        link, loop = FleetLink(Counts()), ControlLoop()
        fleet = _fleet(folder, engine, ca, link, Broker(f"mqtts://localhost:{port}"), loop)
        intake = StatusIntake(lambda said: statuses.observe_all(engine, said), link.counts, now)
        stack.callback(intake.close)
        intake.start()
        link.hand_to(intake.offer, lambda *_: None)
        stack.callback(link.close)
        link.start(f"mqtts://localhost:{port}", _identity(folder), loop.wake)
        link.wait_connected(_CONNECTION_S)
        control = Control(fleet)
        stack.callback(loop.close)
        loop.start(lambda: control.tick(now()))
        yield Stage(folder, port, fleet, loop, devices)


@contextmanager
def swarm(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """All devices, as one process that says on its output what they got."""
    command = [sys.executable, "-m", "bench.order_fanout.swarm", str(stage.folder / "devices"), "localhost", str(stage.port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _identity(folder: Path, name: str = SERVER_IDENTITY) -> Tls:
    ca = folder / "ca"
    return Tls(ca / "ca.pem", ca / f"{name}.pem", ca / f"{name}.key")


def _fleet(folder: Path, engine: Engine, ca: DeviceCa, link: FleetLink, broker: Broker, loop: ControlLoop) -> Fleet:
    keys = OnlineKeys(folder / "keys")
    keys.create("bench")
    return Fleet(
        name="bench",
        home=folder,
        engine=engine,
        authority=ca,
        repository=TufRepository(folder / "tuf", folder / "keys", now),
        signer=Ed25519OrderSigner(keys, lambda: keys.held("orders")),
        link=link,
        broker=broker,
        runner=LocalRunner(python=sys.executable),
        tasks={},
        releases_key=None,
        now=now,
        version="0",
        permits=Permits("https://localhost", b"s" * 32, now),
        wake=loop.wake,
    )


def _identities(folder: Path, ca: DeviceCa, count: int) -> list[str]:
    """One key for all of them: what they prove is not what is measured."""
    folder.mkdir()
    (folder / "ca.pem").write_text(ca.ca_pem())
    key = ec.generate_private_key(ec.SECP256R1())
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    names = [f"fan-{number:05}" for number in range(count)]
    for name in names:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        certificate = ca.issue(request.public_bytes(Encoding.PEM).decode(), name)
        (folder / f"{name}.pem").write_text(key_pem + certificate)
    return names


def _fill(engine: Engine, devices: Sequence[str]) -> None:
    """Devices that are enrolled, and a bundle that is released."""
    empty = {"issued_counter": 0, "online": False, "agent_version": "", "phase": "unknown", "order_counter": 0, "inputs": 0, "refused": {}}
    rows = [{"id": device, "profile": "any", "task": TASK, "enrolled_at": now(), **empty} for device in devices]
    manifest = Manifest(
        task=TASK,
        version="1",
        input=VectorInput(tensor="x", columns=["a"], low=[0.0], high=[1.0]),
        output=Classification(tensor="logits", classes=["no", "yes"]),
        variants=[Variant(name="fp32", entry="model.onnx", runtime="onnxruntime", precision="fp32", tolerance=0.001)],
        known_answers="known.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=1, code="bench"),
        entries={},
    )
    bundle = {
        "sha256": BUNDLE,
        "task": TASK,
        "version": "1",
        "target_path": "bundles/fan-1.bundle",
        "length": 100_000,
        "manifest": msgspec.to_builtins(manifest),
        "reference": b"",
        "published_by": "bench",
        "published_at": now(),
    }
    with database.writing(engine) as connection:
        connection.execute(insert(Device), rows)
        connection.execute(insert(Bundle), bundle)
