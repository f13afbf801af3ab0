"""The one way this program writes a file: whole or not at all, and still there after a power cut."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`, durably. The folder must exist. Raises OSError."""
    _replace(path, lambda out: out.write(data), mode)


def copy_atomic(source: Path, path: Path, mode: int = 0o644) -> None:
    """Replace `path` by a copy of `source`, durably. The folder must exist. Raises OSError."""

    def fill(out: BinaryIO) -> None:
        with source.open("rb") as data:
            shutil.copyfileobj(data, out, 1 << 20)

    _replace(path, fill, mode)


def make_folder(path: Path, mode: int = 0o755) -> Path:
    """Make `path` (and its parents) unless it is there, and give it `mode`."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for, and hold, the lock file `path` among the processes of this machine; it ends with the process that holds it."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sync_folder(folder: Path) -> None:
    """Make the names in it durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, fill: Callable[[BinaryIO], object], mode: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), mode)
            fill(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    sync_folder(path.parent)
