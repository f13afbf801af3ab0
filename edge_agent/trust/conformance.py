"""The agent's trust code as tuf-conformance drives it: https://github.com/theupdateframework/tuf-conformance/blob/main/CLIENT-CLI.md"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from edge_agent.delivery.ports import FileFetcher
from edge_agent.errors import Fatal, Reject
from edge_agent.link.https import Site
from edge_agent.ports import Clock
from edge_agent.storage import atomic
from edge_agent.trust.artifacts import Artifacts
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime

_ANCHOR, _TIME = "anchor", "time"
"""Not NAME.json: those are roles."""


class MetadataSite(FileFetcher):
    """The metadata of a repository below one plain HTTP address."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def read(self, path: str, max_bytes: int) -> bytes:
        return self._site.read(path.removeprefix("metadata/"), max_bytes)


class Client:
    """One metadata folder. It may be used again, by another process too, but by one at a time."""

    def __init__(self, folder: Path, clock: Clock, built_at: datetime) -> None:
        self._folder, self._clock, self._built_at = folder, clock, built_at

    def init(self, root: Path) -> None:
        """Pin this root. Raises Fatal when it cannot be read, or when another is pinned here."""
        try:
            data = root.read_bytes()
            anchor = self._folder / _ANCHOR
            if anchor.exists() and anchor.read_bytes() != data:
                raise Fatal(f"{self._folder} has another root pinned", code="pinned")
            atomic.make_folder(self._folder)
            atomic.write(anchor, data)
            atomic.write(self._folder / "root.json", data)
        except OSError as error:
            raise Fatal(f"{root}: {error}", code="root") from error

    def open(self, metadata_url: str) -> Trust:
        """Raises Fatal before `init`, Reject for an address that is not plain HTTP."""
        try:
            root = (self._folder / _ANCHOR).read_bytes()
        except OSError as error:
            raise Fatal(f"{self._folder} has no pinned root: run init first ({error})", code="root") from error
        time = TrustedTime(self._folder / _TIME, self._clock, self._built_at)
        return Trust(self._folder, root, MetadataSite(Site(metadata_url, self._clock, None)), time)

    def download(self, trust: Trust, names: Sequence[str], targets_url: str, folder: Path) -> list[Path]:
        """Bring every target in turn, by the same client; the first that fails ends it. Raises Retry or Reject."""
        artifacts = Artifacts(folder, Site(targets_url, self._clock, None))
        trust.refresh()
        found = []
        for name in names:
            target = trust.find(name)
            if target is None:
                raise Reject(f"no role that may speak for {name} knows it", code="no-target")
            found.append(artifacts.bring(target, by_digest=trust.by_digest))
        return found
