"""What services need from the edges of the server; app.py alone names the classes behind these."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fleet_contract.blocks import BlockIndex
from fleet_contract.job import JobResult, Progress
from fleet_contract.messages import Follow
from fleet_contract.order import Order


@dataclass(frozen=True)
class Target:
    """A bundle as the signed TUF metadata names it."""

    path: str
    sha256: str
    length: int
    blocks: BlockIndex


@dataclass(frozen=True)
class TrustChange:
    """What an installation of root, targets and releases changes. `files` is what is new, by name; `revoked` and `added` are TUF key ids by role,
    `dropped` the targets that are taken back."""

    files: Mapping[str, bytes]
    versions: Mapping[str, int]
    revoked: Mapping[str, list[str]]
    added: Mapping[str, list[str]]
    dropped: list[str]


class DeviceAuthority(Protocol):
    """The fleet's device CA."""

    def ca_pem(self) -> str: ...

    def ca_sha256(self) -> str:
        """Of the CA certificate's DER, hex: what enrolment tokens pin."""

    def issue(self, csr_pem: str, device_id: str) -> str:
        """A client certificate (PEM) with CN = device id and the SPIFFE URI. Raises BadRequest when the CSR is malformed or for another CN."""

    def serial(self, certificate_pem: str) -> int:
        """Of a certificate that `issue` gave."""

    def revocation_list(self, serials: Iterable[int]) -> bytes:
        """A CRL (PEM) that names these certificates, for brokers."""


class Repository(Protocol):
    """The TUF repository. Root, targets and releases keys are not here; snapshot and timestamp are."""

    def root_v1(self) -> bytes:
        """1.root.json's bytes, which enrolment tokens pin."""

    def metadata(self, name: str) -> bytes:
        """A metadata file by its repository name, e.g. releases.json (the newest) or 3.root.json. Raises NotFound."""

    def publish(self, bundle: Path, releases: bytes, deltas: Sequence[Path] = ()) -> Target:
        """Check the releases metadata (threshold of signatures, next version, names this very bundle and these deltas with their block indices and takes
        no other target away) and that each delta makes the bundle from a released one, store all, and sign snapshot and timestamp. All or nothing;
        the very same release again answers the same.
        Raises BadRequest or Conflict."""

    def file(self, path: str) -> Path:
        """A servable file by its want path: `metadata/<name>` or `targets/<path>`. Raises NotFound."""

    def check(self, files: Mapping[str, bytes]) -> TrustChange:
        """What `install` of these files, by name, would change. Raises BadRequest or Conflict."""

    def install(self, files: Mapping[str, bytes]) -> TrustChange:
        """Verify new root, targets and releases metadata, serve it, and sign snapshot and timestamp. All or nothing, also when the power goes:
        what was begun is gone on with. Raises BadRequest or Conflict."""

    def expiries(self) -> Mapping[str, datetime]:
        """By role, of the newest metadata."""

    def refresh(self) -> None:
        """Re-sign snapshot and timestamp when they are due."""


class FilePermits(Protocol):
    """Addresses of repository files by HTTPS, each for one device."""

    def url(self, device: str, path: str) -> tuple[str, datetime]:
        """The address, a secret, and when it expires."""

    def check(self, device: str, path: str, expires: int, permit: str) -> None:
        """Raises Forbidden unless `url` gave exactly this, in time."""


class OrderKey(Protocol):
    keyid: str

    def sign(self, order: Order) -> bytes:
        """DSSE envelope."""


class OrderSigner(Protocol):
    def key(self) -> OrderKey:
        """The one that signs now: an order that another has signed is worth nothing any more."""


class OrderLink(Protocol):
    def publish_orders(self, envelopes: Mapping[str, bytes]) -> None:
        """Retain each envelope on its device's order topic, soon. Does nothing while offline: every order is published again on connecting."""

    def send_follow(self, device_id: str, follow: Follow) -> None:
        """To a device that listens now. Raises Unavailable while offline."""

    def forget(self, device_id: str) -> None:
        """Retain nothing any more that is to or from this device. Raises Unavailable while offline."""


@dataclass(frozen=True)
class BrokerState:
    kind: str
    url: str
    connected: bool
    protocol: str
    pid: int | None
    bytes_in: int = 0
    bytes_out: int = 0


class Broker(Protocol):
    def state(self) -> BrokerState: ...


@dataclass(frozen=True)
class JobLook:
    """What a job's folder says now: still running, or ended with a `result`, or with a `failure` in words. Neither: it has not been started."""

    running: bool
    progress: Progress | None = None
    result: JobResult | None = None
    failure: str | None = None


class JobRunner(Protocol):
    """Runs the workbench on a job's folder, in another process."""

    def start(self, folder: Path, now: datetime) -> None:
        """Begin the job whose spec.json is in the folder; forgets an earlier attempt. Raises Unavailable when it cannot be started."""

    def look(self, folder: Path, now: datetime) -> JobLook:
        """How it stands; ends it when its time is up. Right also after this program was restarted."""

    def close(self) -> None:
        """End what is running."""
