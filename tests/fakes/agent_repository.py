"""A real TUF repository in memory, laid out and delegated as the fleet server lays out its own, with keys to sign anything."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from fleet_contract import blocks
from fleet_contract.bundle import Bundle, target_path
from fleet_contract.order import Order, SamplingCampaign, sign
from fleet_contract.release import SIGNED_AT

DEVICE, PROFILE = "dev-1", "generic-x86-64"
LIFETIME = timedelta(days=30)


class MemoryRepository:
    """`files` maps the path of a Want to bytes, and is what a device sees."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.files: dict[str, bytes] = {}
        self.orders_key = Ed25519PrivateKey.generate()
        self._root_keys = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self._keys = {role: CryptoSigner.generate_ed25519() for role in ("targets", "snapshot", "timestamp", "releases")}
        self._versions = {"snapshot": 0, "timestamp": 0}
        self._root = self._make_root()
        self._sign_root()
        self.root_v1 = self.files["metadata/1.root.json"]
        self._releases = Targets(version=1, expires=self._later())
        self._targets = Targets(version=1, expires=self._later(), delegations=self._delegations())
        self.commit()

    def publish(self, archive: bytes, *, custom: dict | None = None, sha256: str | None = None) -> str:
        """The bundle's target path; signed and served."""
        manifest = Bundle(archive).manifest
        path = target_path(manifest.task, manifest.version)
        digest = sha256 or hashlib.sha256(archive).hexdigest()
        fields = {"custom": blocks.to_custom(blocks.index_of(archive)) if custom is None else custom}
        self._releases.targets[path] = TargetFile(len(archive), {"sha256": digest}, path, fields)
        self._releases.version += 1
        self.files[f"targets/bundles/{digest}.{path.removeprefix('bundles/')}"] = archive
        self.commit()
        return path

    def commit(self, *, expires: datetime | None = None, signed_at: object = None) -> None:
        """Sign targets, releases, snapshot and timestamp as they are now; `signed_at` is what the timestamp says of its own time."""
        self._put(f"{self._targets.version}.targets.json", self._targets, "targets")
        self._put(f"{self._releases.version}.releases.json", self._releases, "releases")
        self._versions = {role: version + 1 for role, version in self._versions.items()}
        versions = {"targets.json": self._targets.version, "releases.json": self._releases.version}
        meta = {name: self._described(version, f"{version}.{name}") for name, version in versions.items()}
        snapshot = Snapshot(version=self._versions["snapshot"], expires=self._later(), meta=meta)
        self._put(f"{snapshot.version}.snapshot.json", snapshot, "snapshot")
        named = self._described(snapshot.version, f"{snapshot.version}.snapshot.json")
        timestamp = Timestamp(version=self._versions["timestamp"], expires=expires or self._later(), snapshot_meta=named)
        timestamp.unrecognized_fields[SIGNED_AT] = self._now().isoformat() if signed_at is None else signed_at
        self._put("timestamp.json", timestamp, "timestamp")

    def renew_targets(self) -> None:
        """What its offline keys do from time to time: the same content, with more life."""
        for signed in (self._targets, self._releases):
            signed.version += 1
            signed.expires = self._later()

    def rotate_root(self, *, replace_timestamp_key: bool = False) -> None:
        self._root.version += 1
        self._root.expires = self._later()
        if replace_timestamp_key:
            old, self._keys["timestamp"] = self._keys["timestamp"], CryptoSigner.generate_ed25519()
            self._root.revoke_key(old.public_key.keyid, "timestamp")
            self._root.add_key(self._keys["timestamp"].public_key, "timestamp")
            self._versions["timestamp"] = 0
        self._sign_root()

    def order(self, archive: bytes, counter: int = 1, *, key: Ed25519PrivateKey | None = None, **changes: object) -> bytes:
        """A signed envelope for this bundle."""
        manifest = Bundle(archive).manifest
        now = self._now()
        fields = {
            "device": DEVICE,
            "profile": PROFILE,
            "counter": counter,
            "issued_at": now,
            "not_after": now + timedelta(days=7),
            "target_path": target_path(manifest.task, manifest.version),
            "sha256": hashlib.sha256(archive).hexdigest(),
            "length": len(archive),
        }
        return sign(Order(**{**fields, **changes}), key or self.orders_key)

    def _make_root(self) -> Root:
        root = Root(version=1, expires=self._later(), consistent_snapshot=True)
        for signer in self._root_keys:
            root.add_key(signer.public_key, "root")
        root.roles["root"].threshold = 2
        for role in ("targets", "snapshot", "timestamp"):
            root.add_key(self._keys[role].public_key, role)
        return root

    def _sign_root(self) -> None:
        metadata = Metadata(self._root)
        for signer in self._root_keys[:2]:
            metadata.sign(signer, append=True)
        self.files[f"metadata/{self._root.version}.root.json"] = metadata.to_bytes()

    def _delegations(self) -> Delegations:
        releases = self._keys["releases"].public_key
        orders = CryptoSigner(self.orders_key).public_key
        roles = {
            "releases": DelegatedRole("releases", [releases.keyid], 1, True, ["bundles/*"]),
            "orders": DelegatedRole("orders", [orders.keyid], 1, False, ["orders/*"]),
        }
        return Delegations({releases.keyid: releases, orders.keyid: orders}, roles)

    def _later(self) -> datetime:
        return self._now().replace(microsecond=0) + LIFETIME

    def _described(self, version: int, name: str) -> MetaFile:
        """As the server names files: by their very bytes."""
        data = self.files[f"metadata/{name}"]
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _put(self, name: str, signed: object, role: str) -> None:
        metadata = Metadata(signed)
        metadata.sign(self._keys[role])
        self.files[f"metadata/{name}"] = metadata.to_bytes()


def campaign(name: str = "c1") -> SamplingCampaign:
    return SamplingCampaign(id=name, max_items=10, max_bytes=1_000)
