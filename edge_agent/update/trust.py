"""What the fleet's keys vouch for: The Update Framework's client workflow (TUF specification 1.0, section 5) over our own transport.

This is the one place where the library's exceptions become ours. Whatever goes wrong with metadata is a Retry: metadata that does not hold today says nothing
about the order, and whoever sends it can delay, but must not be able to make a device reject a good bundle for ever.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge_agent.errors import AgentError, Missing, Reject, Retry
from edge_agent.ports import FileFetcher
from edge_agent.storage import atomic
from edge_agent.storage.journal import Journal
from fleet_contract import limits, order
from fleet_contract.blocks import BlockIndex, from_custom
from fleet_contract.errors import ContractError

log = logging.getLogger(__name__)

_ORDERS_ROLE = "orders"
_ROLES: dict[str, type] = {"root": Root, "timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}
_MAX_ROOT_ROTATIONS = 256


@dataclass(frozen=True)
class Target:
    """A signed target. `fetch_path` is where its bytes lie in the repository."""

    path: str
    sha256: str
    length: int
    index: BlockIndex

    @property
    def fetch_path(self) -> str:
        folder, _, name = self.path.rpartition("/")
        return f"targets/{folder}/{self.sha256}.{name}"


class Floor(msgspec.Struct, frozen=True):
    """The highest versions seen. `keys` tells the role keys apart: a root that replaces them may begin anew (specification 5.3.11)."""

    versions: dict[str, int] = {}
    keys: str = ""


class Trust:
    """Not thread-safe. `root` is the pinned first root; nothing on the disk can replace it as the anchor."""

    def __init__(self, folder: Path, root: bytes, files: FileFetcher) -> None:
        self._folder, self._root, self._files = folder, root, files
        self._floor = Journal(folder / "floor.json", Floor)
        self._updater: Updater | None = None

    def refresh(self) -> None:
        """Walk root, timestamp, snapshot and targets to the newest. Raises Retry with code offline, tuf-expired, tuf-untrusted or tuf-rollback."""
        self._updater = None
        atomic.make_folder(self._folder)
        with _translated():
            updater = Updater(
                metadata_dir=str(self._folder),
                metadata_base_url="metadata/",
                fetcher=_Fetcher(self._files),
                config=UpdaterConfig(max_root_rotations=_MAX_ROOT_ROTATIONS, targets_max_length=limits.MAX_METADATA_BYTES),
                bootstrap=self._root,
            )
            updater.refresh()
            self._raise_floor()
        self._updater = updater

    def orders_keys(self) -> dict[str, Ed25519PublicKey]:
        """By our key id, as the verified targets metadata delegates them."""
        with _translated():
            delegations = self._load("targets").delegations
            role = delegations.roles.get(_ORDERS_ROLE) if delegations and delegations.roles else None
            keys = [delegations.keys[keyid] for keyid in role.keyids] if delegations and role else []
            raw = [bytes.fromhex(key.keyval["public"]) for key in keys if key.keytype == "ed25519"]
            found = [Ed25519PublicKey.from_public_bytes(public) for public in raw]
        return {order.keyid(key): key for key in found}

    def target(self, path: str) -> Target:
        """What the releases role says of this target. Raises Retry (also while the metadata does not have it) or Reject (no block index)."""
        if self._updater is None:
            self.refresh()
        updater = self._updater
        with _translated():
            info = updater.get_targetinfo(path) if updater else None
            self._sync()
        if info is None:
            self._updater = None
            raise Retry(f"the signed metadata has no target {path}", code="no-target")
        try:
            index = from_custom(info.custom)
        except ContractError as error:
            raise Reject(str(error), code=error.code) from error
        if index.length != info.length:
            raise Reject(f"the block index of {path} is for {index.length} bytes, the target has {info.length}", code="bad-blocks")
        return Target(path=path, sha256=info.hashes.get("sha256", ""), length=info.length, index=index)

    def _load(self, role: str):
        return _stored(self._folder, role)

    def _raise_floor(self) -> None:
        """The library keeps its own floor in timestamp.json, which a damaged file silently forgets: ours stands beside it."""
        floor = self._read_floor()
        root = self._load("root")
        keys = hashlib.sha256(repr([sorted(root.roles[role].keyids) for role in ("timestamp", "snapshot", "targets")]).encode()).hexdigest()
        versions = {role: self._load(role).version for role in _ROLES}
        checked = _ROLES if floor.keys == keys else ["root"]
        for role in checked:
            if versions[role] < floor.versions.get(role, 0):
                raise Retry(f"{role} version {versions[role]} is older than {floor.versions[role]}, seen before", code="tuf-rollback")
        if Floor(versions, keys) != floor:
            self._sync()
            self._floor.write(Floor(versions, keys))

    def _read_floor(self) -> Floor:
        try:
            return self._floor.read() or Floor()
        except Reject as error:
            log.error("the TUF version floor is lost: %s", error)
            return Floor()

    def _sync(self) -> None:
        """The library renames without fsync: make what it wrote durable."""
        for path in self._folder.glob("*.json"):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        atomic.sync_folder(self._folder)


def expiries(folder: Path) -> dict[str, datetime]:
    """When each role's metadata on this device ends. Raises Retry when it is not there."""
    with _translated():
        return {role: _stored(folder, role).expires for role in _ROLES}


def _stored(folder: Path, role: str):
    return Metadata[_ROLES[role]].from_bytes((folder / f"{role}.json").read_bytes()).signed


class _Fetcher(FetcherInterface):
    def __init__(self, files: FileFetcher) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([self._files.read(url, limits.MAX_METADATA_BYTES)])
        except Missing as error:
            raise DownloadHTTPError(str(error), 404) from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        cause = error.__cause__
        raise Retry(f"metadata: {cause or error}", code=cause.code if isinstance(cause, AgentError) else "offline") from error
    except ExpiredMetadataError as error:
        raise Retry(f"metadata: {error} (is the clock right?)", code="tuf-expired") from error
    except (RepositoryError, DeserializationError, ValueError, KeyError) as error:
        raise Retry(f"metadata: {error}", code="tuf-untrusted") from error
    except OSError as error:
        raise Retry(f"metadata: {error}", code="disk") from error
