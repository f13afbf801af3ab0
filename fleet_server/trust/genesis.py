"""How a fleet's TUF repository begins: the one moment at which the offline keys are at hand."""

from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from fleet_server.storage import make_folder, write_atomic
from fleet_server.trust import keys

RELEASES = "releases"
ORDERS = "orders"
SNAPSHOT_LIFETIME = timedelta(days=30)
TIMESTAMP_LIFETIME = timedelta(days=3)
_OFFLINE_LIFETIME = timedelta(days=365)


def create(folder: Path, offline: Path, online: Path, now: datetime) -> None:
    """Write version 1 of every role below `folder`: an empty `releases`, and `orders` as a delegation that never has metadata of its own."""
    store = make_folder(folder / "metadata")
    make_folder(folder / "targets" / "bundles")
    now = now.replace(microsecond=0)
    _write(store / "1.root.json", Metadata(_root(offline, online, now)), *(offline / f"{name}.pem" for name in keys.ROOT_KEYS))
    _write(store / "1.targets.json", Metadata(_targets(offline, online, now)), offline / "targets.pem")
    _write(store / "1.releases.json", Metadata(Targets(expires=now + _OFFLINE_LIFETIME)), offline / "releases.pem")
    meta = {"targets.json": MetaFile(1), "releases.json": MetaFile(1)}
    _write(store / "1.snapshot.json", Metadata(Snapshot(expires=now + SNAPSHOT_LIFETIME, meta=meta)), online / "snapshot.pem")
    _write(store / "timestamp.json", Metadata(Timestamp(expires=now + TIMESTAMP_LIFETIME)), online / "timestamp.pem")


def _root(offline: Path, online: Path, now: datetime) -> Root:
    root = Root(expires=now + _OFFLINE_LIFETIME, consistent_snapshot=True)
    for name in keys.ROOT_KEYS:
        root.add_key(keys.tuf_signer(offline / f"{name}.pem").public_key, "root")
    root.roles["root"].threshold = keys.ROOT_THRESHOLD
    root.add_key(keys.tuf_signer(offline / "targets.pem").public_key, "targets")
    root.add_key(keys.tuf_signer(online / "snapshot.pem").public_key, "snapshot")
    root.add_key(keys.tuf_signer(online / "timestamp.pem").public_key, "timestamp")
    return root


def _targets(offline: Path, online: Path, now: datetime) -> Targets:
    delegated = {
        RELEASES: (keys.tuf_signer(offline / "releases.pem").public_key, ["bundles/*"]),
        ORDERS: (keys.tuf_signer(online / "orders.pem").public_key, ["orders/*"]),
    }
    roles = {name: DelegatedRole(name, [key.keyid], threshold=1, terminating=True, paths=paths) for name, (key, paths) in delegated.items()}
    public = {key.keyid: key for key, _ in delegated.values()}
    return Targets(expires=now + _OFFLINE_LIFETIME, delegations=Delegations(keys=public, roles=roles))


def _write(path: Path, metadata: Metadata, *key_files: Path) -> None:
    for key_file in key_files:
        metadata.sign(keys.tuf_signer(key_file), append=True)
    write_atomic(path, metadata.to_bytes())
