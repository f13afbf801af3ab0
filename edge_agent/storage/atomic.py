"""The one way in which the agent writes a file that must survive a power cut."""

import os
from collections.abc import Mapping
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def write(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """After return `path` holds `data` even if power fails; before, it holds what it held. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    _write_synced(temporary, data, mode)
    temporary.replace(path)
    sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` with these private files, all of them or none. Raises OSError when it exists and is not empty."""
    temporary = folder.with_name(f".{folder.name}.new")
    make_folder(temporary)
    for stale in temporary.iterdir():
        stale.unlink()
    for name, data in files.items():
        _write_synced(temporary / name, data, PRIVATE_FILE)
    sync_folder(temporary)
    temporary.rename(folder)
    sync_folder(folder.parent)


def sweep(folder: Path) -> None:
    """Remove what a write that was cut off has left in `folder`. Raises OSError."""
    for stray in folder.glob(".*.new"):
        if stray.is_file():
            stray.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """A private folder, with its parents; one that exists keeps its mode."""
    if not folder.is_dir():
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def move(source: Path, target: Path) -> None:
    """Give a finished, synced file its name. Raises OSError."""
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """A rename is durable only once its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
