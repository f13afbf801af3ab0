"""A real server, `fleet-server up`, with thousands of devices that it knows and a bundle that is released."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import func, insert, select, update

from bench.fleet import stage as servers
from fleet_contract.broker import Tls
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_server.services import rollouts
from fleet_server.services.rollouts import Plan
from fleet_server.tables import database
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.device import Device
from fleet_server.trust.device_ca import WORKER_IDENTITIES, DeviceCa
from hil.client import Client
from hil.virtual_fleet.trust import orders_keys

_PEER = 2
"""Which worker's identity the peer takes; the server's only worker is the first."""
_BUNDLE = "a" * 64


@dataclass(frozen=True)
class Stage:
    server: servers.Stage
    api: Client

    @property
    def devices(self) -> list[str]:
        return self.server.devices

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.server.rig.state().broker_url)
        return parts.hostname or "", parts.port or 0

    def peer(self) -> Tls:
        """A worker's identity: it may write to devices."""
        ca, name = self.server.rig.home / "ca", WORKER_IDENTITIES[_PEER - 1]
        return Tls(ca / "ca.pem", ca / f"{name}.pem", ca / f"{name}.key")

    def propose(self) -> int:
        """A rollout to all, who run nothing and shall run nothing before it; returns its id."""
        with database.writing(self.server.engine) as connection:
            connection.execute(update(Device).values(desired_bundle=None, desired_rollout=None, bundle=None))
        plan = Plan(_BUNDLE, devices=tuple(self.devices), approved=False)
        return rollouts.create(self.server.engine, plan, by="bench", now=_now()).id

    def approve(self, made: int) -> None:
        self.api.post(f"/rollouts/{made}/approve", {})

    def is_done(self, made: int) -> bool:
        return rollouts.get(self.server.engine, made).state == "done"

    def behind(self) -> int:
        """Devices whose newest order is not known to be theirs."""
        late = (Device.issued_counter == 0) | (Device.order_counter < Device.issued_counter) | Device.desired_bundle.is_(None)
        with database.reading(self.server.engine) as connection:
            return connection.execute(select(func.count()).select_from(Device).where(late)).scalar_one()


@contextmanager
def running(folder: Path, database_url: str | None, count: int) -> Iterator[Stage]:
    with servers.running(folder, count, database_url=database_url, workers=1, tell=lambda _: None) as server:
        DeviceCa(server.rig.home / "ca", "bench", _now).renew_worker(_PEER)
        with database.writing(server.engine) as connection:
            connection.execute(insert(Bundle), _bundle())
        with server.rig.client() as api:
            yield Stage(server, api)


@contextmanager
def swarm(stage: Stage) -> Iterator["subprocess.Popen[str]"]:
    """All devices, as one process that says on its output what they got."""
    host, port = stage.address
    keys = orders_keys(stage.api)
    command = [sys.executable, "-m", "bench.order_fanout.swarm", str(stage.server.identities.folder), host, str(port), *keys]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _now() -> datetime:
    return datetime.now(UTC)


def _bundle() -> dict:
    manifest = Manifest(
        task=servers.TASK,
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
    return {
        "sha256": _BUNDLE,
        "task": servers.TASK,
        "version": "1",
        "target_path": "bundles/virtual-1.bundle",
        "length": 100_000,
        "manifest": msgspec.to_builtins(manifest),
        "reference": b"",
        "published_by": "bench",
        "published_at": _now(),
    }
