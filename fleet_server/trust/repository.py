"""The TUF repository as it is served: it takes root, targets and releases that were signed elsewhere, and signs snapshot and timestamp itself.

A publication writes the target, N.releases.json, N.snapshot.json and, last, timestamp.json. Nothing before the timestamp is reachable,
so a crash between any two of them leaves the old repository, and the next publication writes over what was left. An installation can also replace
keys and roots, which are reachable at once: it is staged first, and gone on with by whoever opens the repository next.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import MetaFile, Targets

from fleet_contract import limits, names
from fleet_contract.errors import BadName
from fleet_server.errors import BadRequest, Conflict, NotFound
from fleet_server.ports import Target, TrustChange
from fleet_server.storage import copy_atomic, locked, make_folder, write_atomic
from fleet_server.trust import installation, online
from fleet_server.trust.keys import ROLES, OnlineKeys
from fleet_server.trust.metadata_folder import MetadataFolder, parse
from fleet_server.trust.release import bundles_in, check_bundle, check_delta, check_release
from fleet_server.trust.staging import Staging

log = logging.getLogger(__name__)


class TufRepository:
    """Implements ports.Repository over `folder`/metadata and `folder`/targets, with the online keys in `key_folder`.
    Several processes may write: they wait for each other, and each reads afresh what there is."""

    def __init__(self, folder: Path, key_folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder, self._targets, self._clock = folder, folder / "targets", clock
        self._metadata = MetadataFolder(folder / "metadata")
        self._keys, self._staging = OnlineKeys(key_folder), Staging(folder)
        self._lock = threading.Lock()

    def opened(self) -> "TufRepository":
        """Itself, an interrupted installation gone on with. Raises NotFound before the first."""
        with self._writing():
            if not self._metadata.is_founded:
                raise NotFound(
                    "there is no root of trust yet: hold the ceremony with online.json (`model-tools keys ceremony --help`), then "
                    "`fleet-server trust install`",
                    field="root",
                )
        return self

    def root_v1(self) -> bytes:
        return self.metadata("1.root.json")

    def metadata(self, name: str) -> bytes:
        return self._metadata.read(name)

    def file(self, path: str) -> Path:
        kind, _, rest = path.partition("/")
        try:
            names.path(path)
        except BadName as error:
            raise NotFound(str(error), field="path", limit=error.limit) from error
        found = self._metadata.path(rest) if kind == "metadata" else self._targets / rest
        if kind not in ("metadata", "targets") or not found.is_file():
            raise NotFound(f"the repository has no file {path!r}", field="path")
        return found

    def publish(self, bundle: Path, releases: bytes, deltas: Sequence[Path] = ()) -> Target:
        """See ports.Repository. Publishing the very same release again answers the same Target."""
        if len(releases) > limits.MAX_METADATA_BYTES:
            raise BadRequest(f"releases metadata of {len(releases)} bytes", field="releases", limit=limits.MAX_METADATA_BYTES)
        with self._writing():
            self._check_root()
            current = self._metadata.load("releases")
            found = check_bundle(bundle)
            made = [check_delta(path, found, self._archives(current.signed)) for path in deltas]
            target = check_release(self._metadata.load("targets"), current, releases, found, self._clock(), made)
            version = parse(releases).signed.version
            if version == self._metadata.version("releases"):
                return target
            for path, file in zip((bundle, *deltas), (found, *made), strict=True):
                copy_atomic(path, self._stored(file.path, file.sha256))
            write_atomic(self._metadata.folder / f"{version}.releases.json", releases)
            self._sign_snapshot({"releases.json": version})
            return target

    def check(self, files: Mapping[str, bytes]) -> TrustChange:
        """What `install` would do. Raises BadRequest or Conflict."""
        held = {role: self._keys.held(role) for role in ROLES}
        return installation.check(self._metadata.standing(), files, held, self._clock())

    def install(self, files: Mapping[str, bytes]) -> TrustChange:
        """See ports.Repository. Installing what is there already does nothing."""
        with self._writing():
            found = self.check(files)
            if found.files:
                self._staging.commit(found.files)
                self._go_on()
        return found

    def refresh(self) -> None:
        """Go on with an interrupted installation; re-sign what has less than half of its life before it, and the timestamp when it is
        TIMESTAMP_EVERY old. Nothing is signed with a clock by which root has expired: that clock is more likely wrong than right."""
        with self._writing():
            now = self._clock()
            if self._metadata.load("root").signed.is_expired(now):
                log.error("root has expired by this clock (%s): nothing is signed until the clock is right, or a new root installed", now)
            elif online.is_snapshot_due(self._metadata.load("snapshot").signed, now):
                self._sign_snapshot({})
            elif online.is_timestamp_due(self._metadata.load("timestamp").signed, now):
                self._sign_timestamp(self._metadata.load("timestamp").signed.snapshot_meta)

    def expiries(self) -> dict[str, datetime]:
        return {role: self._metadata.load(role).signed.expires for role in ("root", "targets", "releases", "snapshot", "timestamp")}

    def newest(self) -> dict[str, bytes]:
        """What the key holders work from, by name: every root, the newest targets and releases."""
        standing = self._metadata.standing()
        names = [f"{version}.root.json" for version in standing.roots]
        names += [f"{self._metadata.version(role)}.{role}.json" for role in ("targets", "releases")]
        return {name: self.metadata(name) for name in names}

    def trusted(self, role: str) -> tuple[str, ...]:
        """The TUF key ids that devices trust in this role. Raises NotFound before the first installation."""
        by = self._metadata.load("root" if role in ("snapshot", "timestamp") else "targets").signed
        return tuple(by.get_delegated_role(role).keyids)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone among the threads of this process and the processes of this machine."""
        make_folder(self._folder)
        with self._lock, locked(self._folder / "lock"):
            self._go_on()
            yield

    def _go_on(self) -> None:
        """Carry out what is committed: safe to be cut off anywhere and begun again. Until the timestamp at its end, devices that ask in between
        may find a new root and an old timestamp; they try again."""
        pending = self._staging.pending()
        if not pending:
            return
        make_folder(self._metadata.folder)
        make_folder(self._targets / "bundles")
        for name in sorted(pending, key=_writing_order):
            write_atomic(self._metadata.folder / name, pending[name])
        named = {name.partition(".")[2]: int(name.partition(".")[0]) for name in pending if not name.endswith(".root.json")}
        self._sign_snapshot(named)
        for role in ROLES:
            self._keys.settle(role, self.trusted(role))
        self._staging.done()

    def _check_root(self) -> None:
        if self._metadata.load("root").signed.is_expired(self._clock()):
            raise Conflict("root has expired: install a new one first (`model-tools keys renew root`)", field="root")

    def _archives(self, signed: Targets) -> dict[str, Path]:
        """Of the released bundles, by digest."""
        return {sha256: self._stored(path, sha256) for sha256, path in bundles_in(signed).items()}

    def _stored(self, target_path: str, sha256: str) -> Path:
        folder, _, name = target_path.rpartition("/")
        return self._targets / folder / f"{sha256}.{name}"

    def _sign_snapshot(self, changes: Mapping[str, int]) -> None:
        old: Mapping[str, MetaFile] = {}
        version = 1
        if self._metadata.is_founded:
            before = self._metadata.load("snapshot").signed
            old, version = before.meta, before.version + 1
        new = {name: online.described(number, self._metadata.read(f"{number}.{name}")) for name, number in changes.items()}
        key = self._keys.key("snapshot", self.trusted("snapshot"))
        data = online.snapshot(version, {**old, **new}, self._clock(), key)
        write_atomic(self._metadata.folder / f"{version}.snapshot.json", data)
        self._sign_timestamp(online.described(version, data))

    def _sign_timestamp(self, snapshot: MetaFile) -> None:
        version = self._metadata.load("timestamp").signed.version + 1 if self._metadata.is_founded else 1
        key = self._keys.key("timestamp", self.trusted("timestamp"))
        write_atomic(self._metadata.folder / "timestamp.json", online.timestamp(version, snapshot, self._clock(), key))


def _writing_order(name: str) -> tuple[bool, int]:
    """Roots, in their order, after what they vouch for: they are reachable at once."""
    version, _, role = name.partition(".")
    return role == "root.json", int(version)
