"""Implementations of fleet_server/ports.py in memory, and a whole Fleet over them on a real database."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from fleet_contract import batches, blocks, messages, order
from fleet_contract.bundle import Bundle, target_path
from fleet_contract.enrolment import EnrolRequest
from fleet_contract.enrolment import parse as parse_token
from fleet_contract.instants import microseconds
from fleet_contract.job import JobResult, Progress
from fleet_contract.messages import LANE_OF, Batch, Follow, Lane, Record, Status
from fleet_contract.order import Order
from fleet_server.domain.twins import Memory
from fleet_server.errors import BadRequest, Conflict, NotFound, Unavailable
from fleet_server.fleet import Fleet
from fleet_server.inbox.port import Segment
from fleet_server.inbox.segment import Arrival
from fleet_server.lake import catalogue, turn
from fleet_server.lake.turn import Lake, Taken
from fleet_server.ports import BrokerState, JobLook, Target, TrustChange
from fleet_server.services import bundles, enrolment
from fleet_server.services.control import Control, Outcome
from fleet_server.services.statuses import observe
from fleet_server.trust.orders import Ed25519OrderKey
from fleet_server.trust.permits import Permits

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeClock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **step: float) -> datetime:
        self.at += timedelta(**step)
        return self.at


class FakeAuthority:
    """A DeviceAuthority: a CSR is the text `CSR <device id>`, a certificate ends with its serial number."""

    def __init__(self) -> None:
        self._issued = 0

    def ca_pem(self) -> str:
        return "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----\n"

    def ca_sha256(self) -> str:
        return "c" * 64

    def issue(self, csr_pem: str, device_id: str) -> str:
        if csr_pem != f"CSR {device_id}":
            raise BadRequest("the CSR is not for this device id", field="csr_pem")
        self._issued += 1
        return f"CERTIFICATE {device_id} {self._issued}"

    def serial(self, certificate_pem: str) -> int:
        return int(certificate_pem.rsplit(" ", 1)[1])


class MemoryRepository:
    """A Repository: releases metadata is JSON {"version": n, "targets": [sha256, ...]}."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest = {"version": 1, "targets": []}
        self.deltas: list[bytes] = []
        self._files: dict[str, Path] = {}
        self.installed: dict[str, bytes] = {}
        self.expires = dict.fromkeys(("root", "targets", "releases"), START + timedelta(days=365))
        folder.mkdir(parents=True, exist_ok=True)

    def root_v1(self) -> bytes:
        return b'{"signed": "root"}'

    def metadata(self, name: str) -> bytes:
        if name == "1.root.json":
            return self.root_v1()
        if name != "releases.json":
            raise NotFound(f"no metadata {name!r}", field="path")
        return msgspec.json.encode(self._newest)

    def following(self, archive: bytes) -> bytes:
        """The next releases metadata, with this archive."""
        targets = [*self._newest["targets"], hashlib.sha256(archive).hexdigest()]
        return msgspec.json.encode({"version": self._newest["version"] + 1, "targets": targets})

    def publish(self, bundle: Path, releases: bytes, deltas: Sequence[Path] = ()) -> Target:
        opened = Bundle(bundle)
        path = target_path(opened.manifest.task, opened.manifest.version)
        target = Target(path, opened.sha256, opened.length, blocks.index_of(bundle.read_bytes()))
        wanted = msgspec.json.decode(releases)
        if wanted == self._newest and opened.sha256 in wanted["targets"]:
            return target
        if wanted["version"] != self._newest["version"] + 1:
            raise Conflict("not the next version", field="version")
        if wanted["targets"] != [*self._newest["targets"], opened.sha256]:
            raise BadRequest("the metadata does not name this bundle", field="targets")
        kept = self._folder / opened.sha256
        shutil.copyfile(bundle, kept)
        folder, name = path.rsplit("/", 1)
        self._files[f"targets/{folder}/{opened.sha256}.{name}"] = kept
        self._newest = wanted
        self.deltas = [path.read_bytes() for path in deltas]
        return target

    def add_file(self, path: str, kept: Path) -> None:
        self._files[path] = kept

    def file(self, path: str) -> Path:
        if path not in self._files:
            raise NotFound(f"no file {path!r}", field="path")
        return self._files[path]

    def check(self, files: Mapping[str, bytes]) -> TrustChange:
        """Everything is well signed but what is empty."""
        if not all(files.values()):
            raise BadRequest("unsigned", field="files", code="unsigned")
        new = {name: data for name, data in files.items() if self.installed.get(name) != data}
        return TrustChange(new, {"root": 1, "targets": 1, "releases": 1}, {}, {}, [])

    def install(self, files: Mapping[str, bytes]) -> TrustChange:
        change = self.check(files)
        self.installed.update(change.files)
        return change

    def expiries(self) -> Mapping[str, datetime]:
        return self.expires

    def refresh(self) -> None: ...


class RealSigner:
    """An OrderSigner, with a key of its own."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
        self.keys = {order.keyid(self._key.public_key()): self._key.public_key()}

    def key(self) -> Ed25519OrderKey:
        return Ed25519OrderKey(self._key)

    def rotate(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.keys = {order.keyid(self._key.public_key()): self._key.public_key()}


class RecordingLink:
    """An OrderLink: remembers what each device's topic retains, how often it was written, and who was asked to be followed."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.published: list[str] = []
        self.followed: list[tuple[str, Follow]] = []
        self.offline = False

    def publish_orders(self, envelopes: Mapping[str, bytes]) -> None:
        self.retained |= envelopes
        self.published += envelopes

    def send_follow(self, device_id: str, follow: Follow) -> None:
        self._need_connection()
        self.followed.append((device_id, follow))

    def forget(self, device_id: str) -> None:
        self._need_connection()
        self.retained.pop(device_id, None)

    def _need_connection(self) -> None:
        if self.offline:
            raise Unavailable("not connected to the broker", field="broker")


class FakeBroker:
    connected = True

    def state(self) -> BrokerState:
        return BrokerState("fake", "mqtts://localhost:8883", self.connected, "5", None)


class FakeRunner:
    """A JobRunner whose jobs end when the test says so."""

    def __init__(self) -> None:
        self.started: list[Path] = []
        self.now_says = JobLook(True, Progress("train", 0.5))

    def start(self, folder: Path, now: datetime) -> None:
        self.started.append(folder)
        self.now_says = JobLook(True, Progress("train", 0.5))

    def look(self, folder: Path, now: datetime) -> JobLook:
        return self.now_says

    def close(self) -> None: ...

    def accept(self, archive: bytes, releases: bytes) -> None:
        """The running job ends with this bundle."""
        (self.started[-1] / "new.bundle").write_bytes(archive)
        (self.started[-1] / "new-releases.json").write_bytes(releases)
        result = JobResult(
            accepted=True, reason="better", gates=[], metrics={"gain": 0.3}, bundle="new.bundle", releases="new-releases.json"
        )
        self.now_says = JobLook(False, result=result)

    def refuse(self, reason: str) -> None:
        self.now_says = JobLook(False, result=JobResult(accepted=False, reason=reason, gates=[]))

    def fail(self, reason: str) -> None:
        self.now_says = JobLook(False, failure=reason)


class World:
    """A fleet of devices that the test plays, over a migrated database."""

    def __init__(self, folder: Path, engine: Engine, *, transport: Literal["mqtt", "http"] | None = None) -> None:
        self.clock, self.signer, self.link, self.runner, self.broker = (
            FakeClock(),
            RealSigner(),
            RecordingLink(),
            FakeRunner(),
            FakeBroker(),
        )
        self.repository = MemoryRepository(folder / "tuf")
        task_file, key = folder / "task.toml", folder / "releases.pem"
        task_file.write_text("")
        key.write_text("")
        self._secrets = 0
        self.excluded: set[str] = set()
        self.fleet = Fleet(
            name="testing",
            home=folder,
            engine=engine,
            authority=FakeAuthority(),
            repository=self.repository,
            signer=self.signer,
            link=self.link,
            broker=self.broker,
            runner=self.runner,
            tasks={"toy": task_file},
            releases_key=key,
            now=self.clock,
            version="0",
            new_secret=self.new_secret,
            ingest_counts=lambda: {"malformed": 2},
            may_receive=lambda device: device not in self.excluded,
            transport=transport,
            permits=Permits("https://fleet.example:8443", b"s" * 32, self.clock),
        )
        self.control = Control(self.fleet)
        self._next: dict[tuple[str, Lane], int] = {}
        self._folder = folder
        self.twins = Memory()

    @property
    def engine(self) -> Engine:
        return self.fleet.engine

    def new_secret(self, _bytes: int) -> str:
        self._secrets += 1
        return hashlib.sha256(str(self._secrets).encode()).hexdigest()

    def tick(self) -> Outcome:
        return self.control.tick(self.clock.forward(seconds=1))

    def settle(self) -> None:
        """Tick until there is nothing to do."""
        for _ in range(20):
            if self.tick().quiet:
                return
        raise AssertionError("the control loop never comes to rest")

    def enrol(self, device: str, task: str = "toy") -> None:
        made = enrolment.create_token(
            self.fleet, device_id=device, profile="generic-x86-64", task=task, lifetime_s=60, by="test", now=self.clock()
        )
        token = parse_token(made.token)
        enrolment.enrol(self.fleet, EnrolRequest(token_id=token.id, secret=token.secret, csr_pem=f"CSR {device}"), self.clock())

    def publish(self, archive: bytes) -> str:
        """Publish a bundle as a person does; returns its digest."""
        path = self._folder / "upload.bundle"
        path.write_bytes(archive)
        return bundles.publish(self.fleet, path, self.repository.following(archive), by="test", now=self.clock()).sha256

    def order(self, device: str) -> Order:
        """What the device's topic retains, opened with the trusted key."""
        return order.open_by(self.link.retained[device], self.signer.keys)[1]

    def say(self, device: str, epoch: str = "e1", **status: object) -> None:
        """A status of the device."""
        now = self.clock.forward(seconds=1)
        observe(self.engine, device, Status(at=now, online=True, epoch=epoch, **status), now)

    def run_order(self, device: str) -> str:
        """The device does what its order says; returns the bundle that it runs now."""
        wanted = self.order(device)
        self.say(device, bundle=wanted.sha256, bundle_version="x", order_counter=wanted.counter)
        return wanted.sha256

    def send(self, device: str, *records: Record) -> None:
        for lane, mine in _by_lane(records).items():
            first = self._next.get((device, lane), 0)
            self._next[device, lane] = first + len(mine)
            self.take(device, batches.make("e1", lane, first, mine))

    def take(self, device: str, *some: Batch) -> Taken:
        """What an ingest worker and the compactor do with these batches of the device."""
        now = self.clock.forward(seconds=1)
        arrivals = [Arrival(device, microseconds(now), messages.encode(batch)) for batch in some]
        lake = Lake(self.fleet.home, self.engine)
        after = catalogue.watermark(self.engine)
        return turn.take(lake, [Segment(after + 1, arrivals)], after, now, twins=self.twins)


def _by_lane(records: tuple[Record, ...]) -> Mapping[Lane, list[Record]]:
    lanes: dict[Lane, list[Record]] = {}
    for record in records:
        lanes.setdefault(LANE_OF[type(record)], []).append(record)
    return lanes
