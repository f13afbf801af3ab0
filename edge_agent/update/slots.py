"""Two slots for bundles. The active one is never written; which one is active stands in the journal alone."""

import hashlib
import os
from pathlib import Path

from edge_agent.errors import Reject, Retry
from edge_agent.storage import atomic
from edge_agent.update.state import Installed, Slot
from fleet_contract.bundle import Bundle
from fleet_contract.errors import ContractError

_READ_ONLY = 0o400


class Slots:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bundle(self, slot: Slot) -> Path:
        return self._folder / slot / "bundle"

    def part(self, slot: Slot) -> Path:
        """An unfinished download, which later ones use as far as it goes. Its folder exists afterwards."""
        atomic.make_folder(self._folder / slot)
        return self._folder / slot / "part"

    def sources(self) -> list[Path]:
        """Every bundle at hand, for the blocks that it shares with a new one."""
        return [path for path in (self.bundle("a"), self.bundle("b")) if path.is_file()]

    def seal(self, slot: Slot) -> None:
        """Make the finished part this slot's read-only bundle; a slot that was sealed before the power went stays so. Raises Retry (disk)."""
        part = self.part(slot)
        try:
            if part.exists():
                part.chmod(_READ_ONLY)
                atomic.move(part, self.bundle(slot))
        except OSError as error:
            raise Retry(f"slot {slot}: {error}", code="disk") from error

    def open(self, installed: Installed) -> Bundle:
        """The verified bundle. Raises Reject: `bad-digest` when the disk holds something else, or the contract's codes when it is no bundle."""
        path = self.bundle(installed.slot)
        self.check(installed)
        try:
            return Bundle(path)
        except ContractError as error:
            raise Reject(str(error), code=error.code) from error

    def check(self, installed: Installed) -> Path:
        """The path, once its bytes have the digest they were installed with. Raises Reject with code bad-digest."""
        path = self.bundle(installed.slot)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Reject(f"slot {installed.slot}: {error}", code="bad-digest") from error
        if (size, digest) != (installed.length, installed.sha256):
            raise Reject(f"slot {installed.slot} does not hold bundle {installed.sha256[:12]} any more", code="bad-digest")
        return path

    def discard(self, slot: Slot) -> None:
        self.bundle(slot).unlink(missing_ok=True)
