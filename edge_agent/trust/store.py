"""The verified metadata on this device's disk, as the bytes that came. Nothing here is trusted: each file is verified anew when it is read."""

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from edge_agent.errors import Retry
from edge_agent.storage import atomic

_ROLES = ("root", "timestamp", "snapshot", "targets")


class MetadataStore:
    """`folder`/ROLE.json, with role names quoted, and the chain of roots in `folder`/roots. A write that has returned survives a power cut."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._roots = folder, folder / "roots"

    def open(self) -> None:
        """Make the folders and sweep what a power cut left half written. Raises Retry (disk)."""
        try:
            atomic.make_folder(self._roots)
            for folder in (self._folder, self._roots):
                atomic.sweep(folder)
        except OSError as error:
            raise _disk(self._folder, error) from error

    def load(self, role: str) -> bytes | None:
        """None when there is none. Raises Retry (disk)."""
        return _read(self._path(role))

    def save(self, role: str, data: bytes) -> None:
        """Raises Retry (disk)."""
        path = self._path(role)
        try:
            if _read(path) != data:
                atomic.write(path, data)
        except OSError as error:
            raise _disk(path, error) from error

    def remove(self, role: str) -> None:
        """Raises Retry (disk)."""
        path = self._path(role)
        try:
            path.unlink(missing_ok=True)
            atomic.sync_folder(path.parent)
        except OSError as error:
            raise _disk(path, error) from error

    def load_root(self, version: int) -> bytes | None:
        return _read(self._roots / f"{version}.json")

    def save_root(self, version: int, data: bytes) -> None:
        """Raises Retry (disk)."""
        path = self._roots / f"{version}.json"
        try:
            atomic.write(path, data)
        except OSError as error:
            raise _disk(path, error) from error

    def expiries(self) -> dict[str, datetime]:
        """When each role's metadata on this device ends, unverified. Raises Retry when one is not there or not readable."""
        from edge_agent.trust import rules

        found = {role: self.load(role) for role in _ROLES}
        missing = [role for role, data in found.items() if data is None]
        if missing:
            raise Retry(f"no metadata of {', '.join(missing)} yet", code="no-metadata")
        return {role: rules.expiry(role, data) for role, data in found.items() if data is not None}

    def _path(self, role: str) -> Path:
        return self._folder / f"{quote(role, '')}.json"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _disk(path, error) from error


def _disk(path: Path, error: OSError) -> Retry:
    return Retry(f"{path}: {error}", code="disk")
