"""A disk whose power can be cut: ext4 on a loop device, on an image file that lies on a second such file system, which can be frozen.

Everything that a file system hands to its disk goes to the image at once (direct I/O). Freezing the file system beneath lets the writes that are
under way end and holds back all later ones: a copy of the image taken then is what a power cut leaves behind, journal replay and all. Writes are
not torn within themselves, and a disk's own volatile cache is not played.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_TOOLS = ("losetup", "mkfs.ext4", "mount", "umount", "fsfreeze")
_MIB = 1024 * 1024
IMAGE_BYTES = 48 * _MIB
_OUTER_BYTES = 4 * IMAGE_BYTES
OPTIONS = "noatime,noauto_da_alloc,commit=1"
"""The least kind that ext4 can be to a program that forgets to sync."""


class NotHere(Exception):
    """Why this machine cannot do it."""


def enter_private_namespace() -> None:
    """Mounts of this process and its children are theirs alone from here on, and end with them. Raises NotHere."""
    if os.geteuid() != 0:
        raise NotHere("only root may mount")
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise NotHere(f"there is no {', '.join(missing)} here")
    if not Path("/dev/loop-control").exists():
        raise NotHere("there are no loop devices here")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise NotHere(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    _run("mount", "--make-rprivate", "/")


class Disks:
    """Images in a folder on a file system of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def mounted(self, image: Path, at: Path) -> Iterator[Path]:
        at.mkdir(exist_ok=True)
        with _mounted(image, at, OPTIONS):
            yield at

    def cut(self, image: Path, copy: Path) -> None:
        """What is on the disk at this moment, to `copy`, which lies elsewhere."""
        _run("fsfreeze", "--freeze", str(self._folder))
        try:
            _copy(image, copy)
        finally:
            _run("fsfreeze", "--unfreeze", str(self._folder))

    def restore(self, copy: Path, image: Path) -> None:
        image.unlink(missing_ok=True)
        _copy(copy, image)
        with image.open("rb") as file:
            os.fsync(file.fileno())

    def new(self, name: str) -> Path:
        """An image with an empty file system."""
        return _format(self._folder / name, IMAGE_BYTES)


@contextmanager
def disks(folder: Path) -> Iterator[Disks]:
    """In a private namespace. Raises NotHere."""
    outer = _format(folder / "outer.img", _OUTER_BYTES)
    at = folder / "outer"
    at.mkdir()
    with _mounted(outer, at, "noatime"):
        yield Disks(at)


def _format(image: Path, size: int) -> Path:
    with image.open("wb") as file:
        file.truncate(size)
    _run("mkfs.ext4", "-q", "-F", str(image))
    return image


@contextmanager
def _mounted(image: Path, at: Path, options: str) -> Iterator[None]:
    """The loop device is let go at once: it is freed with its mount, whatever becomes of this process."""
    device = _run("losetup", "--find", "--show", "--direct-io=on", str(image))
    try:
        check_ours(device, image)
        _run("mount", "-t", "ext4", "-o", options, device, str(at))
    finally:
        _run("losetup", "--detach", device)
    try:
        yield
    finally:
        _run("umount", str(at))


def check_ours(device: str, image: Path) -> None:
    """Nothing is ever done to a device that is not on our image. Raises NotHere."""
    about = Path("/sys/block") / Path(device).name / "loop"
    if (about / "backing_file").read_text().strip() != str(image.resolve()):
        raise NotHere(f"{device} is not on {image}")
    if (about / "dio").read_text().strip() != "1":
        raise NotHere("loop devices here have no direct I/O, so that what was never synced could be on the disk")


def _copy(source: Path, target: Path) -> None:
    _run("cp", "--sparse=always", str(source), str(target))


def _run(*command: str) -> str:
    """Raises NotHere with what the tool says."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NotHere(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
