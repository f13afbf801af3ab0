"""One run of the client workflow: root, timestamp, snapshot, targets, from this device's disk and from the repository.

Order of writing: a floor is durable before the file that raised it, and a file before what it leads to; a power cut anywhere costs a repetition.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from msgspec.structs import replace
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from edge_agent.errors import Missing, Reject, Retry
from edge_agent.storage.journal import Journal
from edge_agent.trust import floor, rules
from edge_agent.trust.floor import Floor
from edge_agent.trust.source import MetadataSource
from edge_agent.trust.store import MetadataStore
from edge_agent.trust.time import TrustedTime
from fleet_contract.release import SIGNED_AT

log = logging.getLogger(__name__)

_MAX_ROOT_ROTATIONS = 256
"""Beyond the newest root seen: of one run, not of a device's life."""
TIMESTAMP = "timestamp"
"""The source of time that the timestamp keys are."""

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """One consistent state of the repository, verified. `below` holds delegated roles by the path of names that led to them."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    below: dict[tuple[str, ...], Targets] = field(default_factory=dict)

    def expires(self) -> datetime:
        return min(signed.expires for signed in (self.root, self.timestamp, self.snapshot, self.targets))


class Workflow:
    """`run` once; `delegated` on its view. Raises Retry throughout."""

    def __init__(self, anchor: bytes, source: MetadataSource, store: MetadataStore, journal: Journal[Floor], time: TrustedTime) -> None:
        self._anchor, self._source, self._store, self._journal, self._time = anchor, source, store, journal, time
        self._floor = Floor()

    def run(self) -> View:
        anchor = rules.anchor(self._anchor)
        self._store.open()
        self._floor = self._read_floor()
        root = self._load_root(anchor)
        self._settle_floor(root)
        self._time.forget(TIMESTAMP, root.roles["timestamp"].keyids)
        self._check_fresh("root", root)
        timestamp = self._load_timestamp(root)
        snapshot = self._load_snapshot(root, timestamp)
        return View(root, timestamp, snapshot, self._load_targets(root, root, "targets", snapshot))

    def delegated(self, view: View, delegator: Targets, path: tuple[str, ...]) -> Targets:
        """The role at the end of `path`, verified by this delegator and no other."""
        if path not in view.below:
            view.below[path] = self._load_targets(view.root, delegator, path[-1], view.snapshot)
        return view.below[path]

    def _load_root(self, root: Root) -> Root:
        """The newest root that a chain of signatures leads to from the pinned one; the links on disk save only the asking."""
        data = self._anchor
        try:
            for version in range(root.version + 1, max(root.version, self._floor.root) + 1 + _MAX_ROOT_ROTATIONS):
                held = self._held(lambda data, trusted=root: rules.next_root(trusted, data), self._store.load_root(version))
                if held is not None:
                    root, data = held
                    continue
                data_new = self._source.read("root", version)
                root, data = rules.next_root(root, data_new), data_new
                self._keep(replace(self._floor, root=max(self._floor.root, version)))
                self._store.save_root(version, data)
        except Missing:
            log.debug("root %d is the newest", root.version)
        finally:
            self._store.save("root", data)
        return root

    def _settle_floor(self, root: Root) -> None:
        """5.3.11: what replaced keys have said is forgotten, on disk first, so that a power cut in between repeats it."""
        floor = self._floor.under(root)
        for role, old, new in (("timestamp", self._floor.timestamp, floor.timestamp), ("snapshot", self._floor.snapshot, floor.snapshot)):
            if old.keys and old.keys != new.keys:
                log.info("the root has replaced the %s keys: their versions begin anew", role)
                self._store.remove("timestamp")
                self._store.remove("snapshot")
        self._keep(floor)

    def _load_timestamp(self, root: Root) -> Timestamp:
        held = self._held(lambda data: rules.timestamp(root, data), self._store.load("timestamp"))
        said = self._floor.timestamp.raised(floor.named_by_timestamp(held[0])) if held else self._floor.timestamp
        data = self._read("timestamp")
        timestamp = rules.timestamp(root, data)
        if held and timestamp.version == held[0].version:
            timestamp, data = held
        said.check(floor.named_by_timestamp(timestamp))
        self._check_fresh("timestamp", timestamp)
        self._keep(Floor(root.version, said.raised(floor.named_by_timestamp(timestamp)), self._floor.snapshot))
        self._store.save("timestamp", data)
        self._witness(root, timestamp)
        return timestamp

    def _load_snapshot(self, root: Root, timestamp: Timestamp) -> Snapshot:
        named = timestamp.snapshot_meta
        stored = self._store.load("snapshot")
        older = self._held(lambda data: rules.snapshot(root, data), stored)
        said = self._floor.snapshot.raised(floor.named_by_snapshot(older[0])) if older else self._floor.snapshot
        held = self._held(lambda data: rules.named_snapshot(root, data, named), stored)
        if held is None:
            data = self._read("snapshot", named.version if root.consistent_snapshot else None, named.length)
            held = rules.named_snapshot(root, data, named), data
        snapshot, data = held
        said.check(floor.named_by_snapshot(snapshot))
        self._check_fresh("snapshot", snapshot)
        self._keep(Floor(root.version, self._floor.timestamp, said.raised(floor.named_by_snapshot(snapshot))))
        self._store.save("snapshot", data)
        return snapshot

    def _load_targets(self, root: Root, delegator: Root | Targets, role: str, snapshot: Snapshot) -> Targets:
        named = snapshot.meta.get(f"{role}.json")
        if named is None:
            raise Retry(f"metadata: {role} was delegated but is not part of the snapshot", code=rules.UNTRUSTED)
        held = self._held(lambda data: rules.targets(delegator, role, data, named), self._store.load(role))
        if held is None:
            data = self._read(role, named.version if root.consistent_snapshot else None, named.length)
            held = rules.targets(delegator, role, data, named), data
        targets, data = held
        self._check_fresh(role, targets)
        self._store.save(role, data)
        return targets

    def _read(self, role: str, version: int | None = None, length: int | None = None) -> bytes:
        try:
            return self._source.read(role, version, length)
        except Missing as error:
            raise Retry(f"metadata: {error}", code=error.code) from error

    def _held(self, verify: Callable[[bytes], T], data: bytes | None) -> tuple[T, bytes] | None:
        """A file on disk counts if it would count coming from the network."""
        if data is None:
            return None
        try:
            return verify(data), data
        except Retry as error:
            log.debug("what is on disk is not used: %s", error)
            return None

    def _witness(self, root: Root, timestamp: Timestamp) -> None:
        at = _moment(timestamp.unrecognized_fields.get(SIGNED_AT))
        if at is not None and at < min(timestamp.expires, root.expires):
            self._time.raise_floor(at, TIMESTAMP, root.roles["timestamp"].keyids)

    def _check_fresh(self, role: str, signed: Root | Timestamp | Snapshot | Targets) -> None:
        try:
            rules.check_fresh(role, signed, self._time.now())
        except Retry as error:
            raise Retry(f"{error}{self._time.doubt()}", code=error.code) from error

    def _read_floor(self) -> Floor:
        try:
            return self._journal.read() or Floor()
        except Reject as error:
            log.error("the version floors are lost: %s", error)
            return Floor()

    def _keep(self, new: Floor) -> None:
        if new != self._floor:
            self._journal.write(new)
        self._floor = new


def _moment(said: object) -> datetime | None:
    """An aware time, or None for anything else."""
    try:
        at = datetime.fromisoformat(said)  # type: ignore[arg-type]
        return at.astimezone(UTC) if at.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None
