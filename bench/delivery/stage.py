"""The stage: a file that does not compress, a CA, a Mosquitto; and one fetch of some devices, measured."""

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.delivery.process import Child, cpu_s, peak_bytes
from bench.delivery.wire import Counted, Identity, Plan, Verified
from fleet_contract import blocks
from fleet_server.mqtt.listener import Listener
from fleet_server.mqtt.supervisor import BrokerChild
from fleet_server.running import free_port
from fleet_server.trust import device_ca
from fleet_server.trust.device_ca import DeviceCa

_DEVICES_PER_PROCESS = 10
_START_S = 120.0


@dataclass(frozen=True)
class Figures:
    """Of the time from the start until the last device had verified the whole file."""

    verified_s: list[float]
    cpu_s: float
    bytes_in: int
    bytes_out: int
    peak_bytes: int
    devices_cpu_s: float
    broker_cpu_s: float | None = None


@dataclass(frozen=True)
class Stage:
    folder: Path
    plan: Plan
    broker: BrokerChild

    def written(self, plan: Plan, name: str) -> str:
        path = self.folder / name
        path.write_bytes(msgspec.json.encode(plan))
        return str(path)


def build(folder: Path, length: int, devices: int, closing: ExitStack) -> Stage:
    """A broker that runs until `closing` ends, and identities of so many devices."""
    content = os.urandom(length)
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"targets/bundles/{sha256}.toy-1.bundle"
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_bytes(content)
    ca = device_ca.create(folder / "ca", "bench", lambda: datetime.now(UTC))
    ca.renew_own(["localhost", "127.0.0.1"])
    port = free_port("127.0.0.1", 0, 0, "mqtt_port")
    files = [str(ca.folder / name) for name in ("ca.pem", "server.pem", "server.key")]
    server = Identity(str(ca.folder / "ca.pem"), str(ca.folder / "fleet-server.pem"), str(ca.folder / "fleet-server.key"))
    broker = BrokerChild(
        "mosquitto", Listener("127.0.0.1", port, *files, str(folder / "broker")), server.tls, search_path=os.environ["PATH"]
    )
    closing.callback(broker.close)
    broker.start()
    known = {f"dev-{number}": _identity(ca, f"dev-{number}", folder) for number in range(devices)}
    (folder / "parts").mkdir()
    index = blocks.index_of(content)
    return Stage(folder, Plan(str(folder), path, sha256, index, f"mqtts://localhost:{port}", server, known, str(folder / "parts")), broker)


def fetch_by_mqtt(stage: Stage, count: int, patience_s: float) -> Figures:
    told = stage.written(stage.plan, "mqtt.json")
    with Child("bench.delivery.server", told) as server:
        server.hear(str, _START_S)
        return _fetch(server, told, count, patience_s, stage.broker.pid)


def fetch_by_http(stage: Stage, count: int, patience_s: float) -> Figures:
    with Child("bench.delivery.website", stage.written(stage.plan, "http.json")) as server:
        address = f"http://127.0.0.1:{server.hear(int, _START_S)}/file"
        told = stage.written(msgspec.structs.replace(stage.plan, website=address), "http.json")
        return _fetch(server, told, count, patience_s, None)


def _fetch(server: Child, told: str, count: int, patience_s: float, broker: int | None) -> Figures:
    names = [f"dev-{number}" for number in range(count)]
    with ExitStack() as closing:
        groups = [names[at : at + _DEVICES_PER_PROCESS] for at in range(0, count, _DEVICES_PER_PROCESS)]
        children = [closing.enter_context(Child("bench.delivery.devices", told, ",".join(group))) for group in groups]
        for child in children:
            child.hear(str, _START_S)
        watched = {
            "server": server.pid,
            **({"broker": broker} if broker else {}),
            **{f"d{n}": child.pid for n, child in enumerate(children)},
        }
        counted, spent = _ask(server), {name: cpu_s(pid) for name, pid in watched.items()}
        for child in children:
            child.tell()
        seconds = [second for child in children for second in child.hear(Verified, patience_s).seconds.values()]
        spent = {name: cpu_s(pid) - spent[name] for name, pid in watched.items()}
        now = _ask(server)
        return Figures(
            seconds,
            spent.pop("server"),
            now.bytes_in - counted.bytes_in,
            now.bytes_out - counted.bytes_out,
            peak_bytes(server.pid),
            broker_cpu_s=spent.pop("broker", None),
            devices_cpu_s=sum(spent.values()),
        )


def _ask(server: Child) -> Counted:
    server.tell()
    return server.hear(Counted, _START_S)


def _identity(ca: DeviceCa, name: str, folder: Path) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    certificate, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_text(ca.issue(csr.public_bytes(Encoding.PEM).decode(), name))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Identity(str(folder / "ca" / "ca.pem"), str(certificate), str(key_file))
