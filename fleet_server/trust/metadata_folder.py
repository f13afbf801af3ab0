"""The metadata files of the repository, read by the names that devices ask for."""

import re
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from fleet_server.errors import BadRequest, NotFound
from fleet_server.trust.installation import Standing

_NAME = re.compile(r"(?:[1-9][0-9]{0,9}\.)?(?:root|targets|snapshot|releases|timestamp)\.json")
_ROOT = re.compile(r"([1-9][0-9]{0,9})\.root\.json")


class MetadataFolder:
    """A name without a version means the newest that the timestamp reaches; of root, the newest that there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Raises NotFound."""
        if not _NAME.fullmatch(name):
            raise NotFound(f"{name!r} is no metadata file of this repository", field="path")
        role = name.removesuffix(".json")
        if role in ("snapshot", "targets", "releases"):
            name = f"{self.version(role)}.{name}"
        elif role == "root":
            name = f"{max(self._roots(), default=1)}.{name}"
        return self.folder / name

    def read(self, name: str) -> bytes:
        """Raises NotFound."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise NotFound(f"the repository has no metadata file {name!r}", field="path") from error

    def load(self, role: str) -> Metadata:
        """The newest. Raises NotFound."""
        return parse(self.read(f"{role}.json"))

    def version(self, role: str) -> int:
        """Which version of snapshot, targets or releases devices are led to. Raises NotFound."""
        snapshot = self.load("timestamp").signed.snapshot_meta.version
        return snapshot if role == "snapshot" else self.load("snapshot").signed.meta[f"{role}.json"].version

    def standing(self) -> Standing:
        roots = {version: parse(self.read(f"{version}.root.json")) for version in self._roots()}
        if not self.is_founded:
            return Standing(roots)
        return Standing(roots, self.load("targets"), self.load("releases"))

    @property
    def is_founded(self) -> bool:
        return (self.folder / "timestamp.json").exists()

    def _roots(self) -> list[int]:
        found = (_ROOT.fullmatch(path.name) for path in self.folder.glob("*.root.json"))
        return sorted(int(match[1]) for match in found if match)


def parse(data: bytes) -> Metadata:
    """Raises BadRequest."""
    try:
        return Metadata.from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError) as error:
        raise BadRequest(f"malformed TUF metadata: {error}", field="releases") from error
