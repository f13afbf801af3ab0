"""What the fleet's keys vouch for: orders keys and targets, by The Update Framework over whatever carries files.

python-tuf and cryptography come in with the first question: 14 MB that a device without an order never needs.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.delivery.ports import FileFetcher, Target
from edge_agent.errors import Reject, Retry
from edge_agent.storage.journal import Journal
from edge_agent.trust.floor import Floor
from edge_agent.trust.source import MetadataSource
from edge_agent.trust.store import MetadataStore
from edge_agent.trust.time import TrustedTime
from fleet_contract import order
from fleet_contract.blocks import from_custom
from fleet_contract.errors import ContractError
from fleet_contract.release import ORDERS, release_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from tuf.api.metadata import TargetFile

    from edge_agent.trust.workflow import View, Workflow

FLOOR = "floor"
"""Not NAME.json: those are roles."""


class Trust:
    """Not thread-safe. `root` is the pinned first root; nothing on the disk can replace it as the anchor."""

    def __init__(self, folder: Path, root: bytes, files: FileFetcher, time: TrustedTime) -> None:
        self._root, self._files, self._time = root, files, time
        self._store = MetadataStore(folder)
        self._journal = Journal(folder / FLOOR, Floor)
        self._view: View | None = None

    def refresh(self) -> None:
        """Walk root, timestamp, snapshot and targets to the newest. Raises Retry with code offline, deadline, disk, tuf-expired, tuf-untrusted
        or tuf-rollback; what was verified before it stays on disk."""
        self._view = None
        view = self._workflow().run()
        self._time.forget(ORDERS, list(_orders_keys(view)))
        self._view = view

    def orders_keys(self) -> "dict[str, Ed25519PublicKey]":
        """By our key id, as the verified targets metadata delegates them. Raises Retry."""
        return {order.keyid(key): key for key in _orders_keys(self._fresh_view()).values()}

    def witness_order(self, issued_at: datetime) -> None:
        """An order that the orders keys have signed is a witness of time, while it does not contradict the metadata that is held:
        a stolen orders key can then not make a device refuse the metadata that revokes it. Raises Retry."""
        view = self._fresh_view()
        if issued_at < view.expires():
            self._time.raise_floor(issued_at, ORDERS, list(_orders_keys(view)))

    def target(self, path: str) -> Target:
        """What the releases role says of this target. Raises Retry (also while the metadata does not have it) or Reject (no block index)."""
        info = self.find(path)
        if info is None:
            self._view = None
            raise Retry(f"the signed metadata has no target {path}", code="no-target")
        custom = info.custom
        try:
            index = from_custom(custom)
            deltas = release_of(custom).deltas if isinstance(custom, dict) and "edgefleet" in custom else []
        except ContractError as error:
            raise Reject(str(error), code=error.code) from error
        if index.length != info.length:
            raise Reject(f"the block index of {path} is for {index.length} bytes, the target has {info.length}", code="bad-blocks")
        if "sha256" not in info.hashes:
            raise Reject(f"the signed metadata gives no SHA-256 of {path}", code="bad-blocks")
        return Target(path, info.hashes["sha256"], info.length, index, {delta.base: delta.path for delta in deltas})

    def find(self, path: str) -> "TargetFile | None":
        """What the most trusted role that knows this target says of it. Raises Retry."""
        from edge_agent.trust import search

        view = self._fresh_view()
        workflow = self._workflow()
        try:
            return search.find(path, view.targets, lambda delegator, names: workflow.delegated(view, delegator, names))
        except Retry:
            self._view = None  # the next try may find a repository that has been mended
            raise

    @property
    def by_digest(self) -> bool:
        """Whether targets lie under their digest's name (consistent snapshots). Raises Retry."""
        return bool(self._fresh_view().root.consistent_snapshot)

    def _fresh_view(self) -> "View":
        if self._view is None or self._view.expires() <= self._time.now():
            self.refresh()
        if self._view is None:
            raise Retry("there is no verified metadata yet", code="no-metadata")
        return self._view

    def _workflow(self) -> "Workflow":
        from edge_agent.trust.workflow import Workflow

        return Workflow(self._root, MetadataSource(self._files, self._time), self._store, self._journal, self._time)


def _orders_keys(view: "View") -> "dict[str, Ed25519PublicKey]":
    """By TUF's key id."""
    from edge_agent.trust import rules

    return rules.role_keys(view.targets, ORDERS)


def expiries(folder: Path) -> dict[str, datetime]:
    """When each role's metadata on this device ends. Raises Retry when it is not there."""
    return MetadataStore(folder).expiries()
