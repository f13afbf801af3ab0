"""What delivery needs and gives: signed files, those that are here already, and ways to fetch the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fleet_contract.blocks import BlockIndex


@dataclass(frozen=True)
class Target:
    """A signed target. `fetch_path` is where its bytes lie in the repository.
    `deltas`: digest of a base bundle -> target path of a delta that makes this one from it."""

    path: str
    sha256: str
    length: int
    index: BlockIndex
    deltas: Mapping[str, str] = field(default_factory=dict)

    @property
    def fetch_path(self) -> str:
        folder, _, name = self.path.rpartition("/")
        return f"targets/{folder}/{self.sha256}.{name}"


@dataclass(frozen=True)
class Held:
    """A file on this device that had the digest `sha256` when it was stored ("" for an unfinished one); the disk may have forgotten since,
    and it need not be there."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Wish:
    """How a download may go: what the order prefers, and whether it is still wanted (asked often, must be cheap)."""

    transport: Literal["mqtt", "http"] | None = None
    wanted: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Fetched:
    """Bytes of the file that came over the network (a delta counts with its own), bytes that were here already, and the way that was taken."""

    fetched_bytes: int
    reused_bytes: int
    way: Literal["nothing", "mqtt", "http", "delta"] = "mqtt"


class Delivery(Protocol):
    def bring(self, target: Target, part: Path, held: Sequence[Held], wish: Wish) -> Fetched:
        """`part` holds the whole target afterwards, durably, every block checked; if not, what it holds is used the next time.
        Raises Retry (network, whatever a server says, disk, outside the download window, `superseded` when it is not wanted any more),
        or Reject (bad-blocks) for a target that is signed and cannot be."""


class FileFetcher(Protocol):
    """Reads the server's repository files, whatever carries them."""

    def read(self, path: str, max_bytes: int) -> bytes:
        """A small file whole, e.g. `metadata/timestamp.json`. Raises Retry (offline, deadline), Missing (a Reject) or Reject."""
