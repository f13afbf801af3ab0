"""The highest versions ever verified, each with the keys that vouched for it: a rollback stays impossible when the metadata files are lost.

Keys that the root replaces take their floors with them, so that a thief who counted far ahead does not outlast his keys (specification 5.3.11).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import Retry

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Snapshot, Timestamp

ROLLBACK = "tuf-rollback"


class Said(msgspec.Struct, frozen=True):
    """What the keys of one role have said: the newest version of each file that they name."""

    keys: Sequence[str] = ()
    versions: Mapping[str, int] = {}

    def under(self, keys: Sequence[str]) -> "Said":
        """This, or nothing if the role has other keys now."""
        return self if sorted(keys) == list(self.keys) else Said(keys=sorted(keys))

    def check(self, versions: Mapping[str, int]) -> None:
        """Raises Retry when a version is older than one seen before, or a file is not named any more."""
        for name, seen in self.versions.items():
            if versions.get(name, 0) < seen:
                raise Retry(f"metadata: version {versions.get(name)} of {name} is older than {seen}, seen before", code=ROLLBACK)

    def raised(self, versions: Mapping[str, int]) -> "Said":
        names = {*self.versions, *versions}
        return Said(self.keys, {name: max(self.versions.get(name, 0), versions.get(name, 0)) for name in sorted(names)})


class Floor(msgspec.Struct, frozen=True):
    root: int = 0
    timestamp: Said = Said()
    snapshot: Said = Said()

    def under(self, root: "Root") -> "Floor":
        """The floors that are left under this root. Raises Retry when the root is older than one seen before."""
        if root.version < self.root:
            raise Retry(f"metadata: version {root.version} of root is older than {self.root}, seen before", code=ROLLBACK)
        timestamp, snapshot = (root.roles[role].keyids for role in ("timestamp", "snapshot"))
        return Floor(root.version, self.timestamp.under(timestamp), self.snapshot.under(snapshot))


def named_by_timestamp(timestamp: "Timestamp") -> dict[str, int]:
    return {"timestamp.json": timestamp.version, "snapshot.json": timestamp.snapshot_meta.version}


def named_by_snapshot(snapshot: "Snapshot") -> dict[str, int]:
    return {name: meta.version for name, meta in snapshot.meta.items()}
