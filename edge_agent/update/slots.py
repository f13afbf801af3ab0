"""Two slots for bundles. The active one is never written; which one is active stands in the journal alone.

The folders and files are opened without following links, and must be ours: what was checked is what is read, whatever a path comes to name.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.delivery.ports import Held
from edge_agent.errors import Reject, Retry
from edge_agent.storage import atomic
from edge_agent.update.state import Installed, Slot, State
from fleet_contract.bundle import Bundle
from fleet_contract.errors import ContractError

DAMAGED = frozenset({"bad-digest", "bad-slot"})
"""The disk, or who may write to it, is at fault, not the bundle."""
_READ_ONLY = 0o400
_BUNDLE, _PART = "bundle", "part"
_ROOT_USER = 0


class Slots:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def staging(self, state: State) -> "Staging":
        """The slot of the update at hand. Raises Reject with code bad-slot when it is the active one's."""
        candidate = state.candidate
        if candidate is None or (state.active is not None and candidate.slot == state.active.slot):
            raise Reject("the journal would have an update write to the active slot", code="bad-slot")
        return Staging(self._folder, candidate.slot)

    def held(self, state: State) -> list[Held]:
        """The bundles at hand, and what a rollback left unfinished in the other slot, for the blocks that they share with a new one."""
        held = [Held(self.path(one.slot), one.sha256) for one in (state.active, state.previous, state.shadow) if one is not None]
        return [*held, Held(self.path(state.active.slot).with_name(_PART), "")] if state.active else held

    def open(self, installed: Installed) -> Bundle:
        """The verified bundle; its reader checks each entry again as it hands it out. Raises Reject: `bad-digest` when the disk holds something else,
        `bad-slot` when what lies there is no private file of ours, or the contract's codes when it is no bundle."""
        self.check(installed)
        try:
            bundle = Bundle(_SlotFile(self.path(installed.slot), installed.length))
        except (ContractError, OSError) as error:
            raise Reject(str(error), code=getattr(error, "code", "bad-slot")) from error
        if bundle.sha256 != installed.sha256:
            raise _changed(installed)
        return bundle

    def check(self, installed: Installed) -> None:
        """Raises Reject with code bad-digest or bad-slot unless the slot still holds the bytes that were installed."""
        try:
            with _opened(self.path(installed.slot)) as handle, os.fdopen(handle, "rb", closefd=False) as file:
                size = os.fstat(handle).st_size
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Reject(f"slot {installed.slot}: {error}", code="bad-slot") from error
        if (size, digest) != (installed.length, installed.sha256):
            raise _changed(installed)

    def path(self, slot: Slot) -> Path:
        return self._folder / slot / _BUNDLE


class Staging:
    """The idle slot, and the one way to write to a slot."""

    def __init__(self, folder: Path, slot: Slot) -> None:
        self._folder, self._slot = folder, slot

    @property
    def bundle(self) -> Path:
        return self._folder / self._slot / _BUNDLE

    def part(self) -> Path:
        """An unfinished download, which later ones use as far as it goes. Its folder exists afterwards. Raises Retry (disk)."""
        folder = self.bundle.parent
        try:
            if folder.is_symlink():
                folder.unlink()  # nothing that was written through it could be opened
            atomic.make_folder(folder)
        except OSError as error:
            raise Retry(f"slot {self._slot}: {error}", code="disk") from error
        return self.bundle.with_name(_PART)

    def seal(self) -> None:
        """Make the finished part this slot's read-only bundle; a slot that was sealed before the power went stays so. Raises Retry (disk)."""
        part = self.part()
        try:
            if part.exists():
                part.chmod(_READ_ONLY)
                atomic.move(part, self.bundle)
        except OSError as error:
            raise Retry(f"slot {self._slot}: {error}", code="disk") from error

    def discard(self) -> None:
        """Raises Retry (disk)."""
        try:
            self.bundle.unlink(missing_ok=True)
        except OSError as error:
            raise Retry(f"slot {self._slot}: {error}", code="disk") from error


class _SlotFile:
    """Content of a bundle (see fleet_contract.content), opened and judged anew for each reading, so that nothing has to be closed."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        self.length = length

    def read(self, start: int, length: int) -> bytes:
        with _opened(self._path) as handle:
            return os.pread(handle, length, start)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A private regular file of ours in a folder that is no link. Raises OSError."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        handle = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        found = os.fstat(handle)
        if (
            not stat.S_ISREG(found.st_mode)
            or found.st_uid not in (os.geteuid(), _ROOT_USER)
            or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise PermissionError(f"{path} is not a regular file that only this user may write")
        yield handle
    finally:
        os.close(handle)


def _changed(installed: Installed) -> Reject:
    return Reject(f"slot {installed.slot} does not hold bundle {installed.sha256[:12]} any more", code="bad-digest")
