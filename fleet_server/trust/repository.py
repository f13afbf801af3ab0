"""The TUF repository as it is served: it takes releases that were signed elsewhere, and signs snapshot and timestamp itself.

A publication writes the target, N.releases.json, N.snapshot.json and, last, timestamp.json. Nothing before the timestamp is reachable,
so a crash between any two of them leaves the old repository, and the next publication writes over what was left.
"""

import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp
from tuf.api.serialization import DeserializationError

from fleet_contract import limits, names
from fleet_contract.errors import BadName
from fleet_server.errors import BadRequest, NotFound
from fleet_server.ports import Target
from fleet_server.storage import copy_atomic, write_atomic
from fleet_server.trust import keys
from fleet_server.trust.genesis import SNAPSHOT_LIFETIME, TIMESTAMP_LIFETIME
from fleet_server.trust.release import check_bundle, check_release

_METADATA = re.compile(r"(?:[1-9][0-9]{0,9}\.)?(?:root|targets|snapshot|releases|timestamp)\.json")


class TufRepository:
    """Implements ports.Repository over `folder`/metadata and `folder`/targets, with the online keys in `key_folder`."""

    def __init__(self, folder: Path, key_folder: Path, clock: Callable[[], datetime]) -> None:
        """Raises BadRequest when a key cannot be used, NotFound when there is no repository."""
        self._metadata, self._targets, self._clock = folder / "metadata", folder / "targets", clock
        self._snapshot_key = keys.tuf_signer(key_folder / "snapshot.pem")
        self._timestamp_key = keys.tuf_signer(key_folder / "timestamp.pem")
        self._lock = threading.Lock()
        self.root_v1()

    def root_v1(self) -> bytes:
        return self.metadata("1.root.json")

    def metadata(self, name: str) -> bytes:
        try:
            return self._metadata_path(name).read_bytes()
        except OSError as error:
            raise NotFound(f"the repository has no metadata file {name!r}", field="path") from error

    def file(self, path: str) -> Path:
        kind, _, rest = path.partition("/")
        try:
            names.path(path)
        except BadName as error:
            raise NotFound(str(error), field="path", limit=error.limit) from error
        found = self._metadata_path(rest) if kind == "metadata" else self._targets / rest
        if kind not in ("metadata", "targets") or not found.is_file():
            raise NotFound(f"the repository has no file {path!r}", field="path")
        return found

    def publish(self, bundle: Path, releases: bytes) -> Target:
        """See ports.Repository. Publishing the very same release again answers the same Target."""
        if len(releases) > limits.MAX_METADATA_BYTES:
            raise BadRequest(f"releases metadata of {len(releases)} bytes", field="releases", limit=limits.MAX_METADATA_BYTES)
        with self._lock:
            found = check_bundle(bundle)
            target = check_release(self._load("targets"), self._load("releases"), releases, found, self._clock())
            version = _parse(releases).signed.version
            if version == self._version("releases"):
                return target
            name = f"{target.sha256}.{Path(target.path).name}"
            copy_atomic(bundle, self._targets / Path(target.path).parent / name)
            write_atomic(self._metadata / f"{version}.releases.json", releases)
            self._sign_snapshot({"releases.json": version})
            return target

    def refresh(self) -> None:
        """Re-sign what has less than half of its life before it."""
        with self._lock:
            now = self._clock()
            if self._load("snapshot").signed.expires - now < SNAPSHOT_LIFETIME / 2:
                self._sign_snapshot({})
            elif self._load("timestamp").signed.expires - now < TIMESTAMP_LIFETIME / 2:
                self._sign_timestamp(self._load("timestamp").signed.snapshot_meta.version)

    def _sign_snapshot(self, changes: dict[str, int]) -> None:
        old: Snapshot = self._load("snapshot").signed
        meta = {**old.meta, **{name: MetaFile(version) for name, version in changes.items()}}
        expires = self._clock().replace(microsecond=0) + SNAPSHOT_LIFETIME
        snapshot = Metadata(Snapshot(version=old.version + 1, expires=expires, meta=meta))
        snapshot.sign(self._snapshot_key)
        write_atomic(self._metadata / f"{old.version + 1}.snapshot.json", snapshot.to_bytes())
        self._sign_timestamp(old.version + 1)

    def _sign_timestamp(self, snapshot_version: int) -> None:
        version = self._load("timestamp").signed.version + 1
        expires = self._clock().replace(microsecond=0) + TIMESTAMP_LIFETIME
        timestamp = Metadata(Timestamp(version=version, expires=expires, snapshot_meta=MetaFile(snapshot_version)))
        timestamp.sign(self._timestamp_key)
        write_atomic(self._metadata / "timestamp.json", timestamp.to_bytes())

    def _load(self, role: str) -> Metadata:
        return _parse(self.metadata(f"{role}.json"))

    def _metadata_path(self, name: str) -> Path:
        """The file behind a name; a name without a version means the newest that the timestamp reaches."""
        if not _METADATA.fullmatch(name):
            raise NotFound(f"{name!r} is no metadata file of this repository", field="path")
        role = name.removesuffix(".json")
        if role in ("snapshot", "targets", "releases"):
            name = f"{self._version(role)}.{name}"
        elif role == "root":
            name = f"{max(int(path.name.split('.')[0]) for path in self._metadata.glob('*.root.json'))}.{name}"
        return self._metadata / name

    def _version(self, role: str) -> int:
        timestamp: Timestamp = self._load("timestamp").signed
        if role == "snapshot":
            return timestamp.snapshot_meta.version
        return self._load("snapshot").signed.meta[f"{role}.json"].version


def _parse(data: bytes) -> Metadata:
    try:
        return Metadata.from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError) as error:
        raise BadRequest(f"malformed TUF metadata: {error}", field="releases") from error
