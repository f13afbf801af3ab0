"""What a backend needs of the system below a folder that looks like `/`: found by looking, nothing is loaded."""

from collections.abc import Iterator
from pathlib import Path

from firmware_profiles.catalog import Backend

_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib")
_CONFIGURED = "etc/ld.so.conf.d"


def missing(backend: Backend, root: Path) -> list[str]:
    """The files and libraries that are not there, in the profile's order."""
    libraries = [*([backend.library] if backend.library else []), *backend.libraries]
    absent = [file for file in backend.files if not (root / file.lstrip("/")).exists()]
    return absent + [library for library in libraries if not has_library(library, root)]


def has_library(name: str, root: Path) -> bool:
    return find_library(name, root) is not None


def find_library(name: str, root: Path) -> Path | None:
    """A path must be there; a bare name is looked for where the dynamic linker would (ld.so(8)), LD_LIBRARY_PATH aside."""
    places = [root / name.lstrip("/")] if "/" in name else [folder / name for folder in _searched(root)]
    return next((place for place in places if place.exists()), None)


def _searched(root: Path) -> Iterator[Path]:
    """The linker's own folders, Debian's below them for each architecture, and those of /etc/ld.so.conf.d."""
    for name in _FOLDERS:
        yield root / name
        yield from (root / name).glob("*-linux-gnu*")
    for file in sorted((root / _CONFIGURED).glob("*.conf")):
        for line in file.read_text(errors="replace").splitlines():
            folder = line.strip()
            if folder.startswith("/"):
                yield root / folder.lstrip("/")
