"""How much disk the agent takes: its packages, and every distribution that its extra asks for, as they are installed here."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

DISTRIBUTION = "edgefleet"
PACKAGES = ("edge_agent", "fleet_contract", "firmware_profiles")


def installed_bytes(extra: str, root: Path, distribution: str = DISTRIBUTION) -> dict[str, int]:
    """By distribution, without compiled files: of ours the agent's own packages below `root`. Raises PackageNotFoundError where one is missing."""
    found = {distribution: sum(_size(path) for package in PACKAGES for path in (root / package).rglob("*") if path.suffix != ".pyc")}
    waiting = [(distribution, {extra})]
    while waiting:
        name, extras = waiting.pop()
        for wanted in _requirements(name, extras):
            key = _normal(wanted.name)
            if key not in found:
                found[key] = sum(_size(Path(file.locate())) for file in importlib.metadata.files(key) or () if file.suffix != ".pyc")
                waiting.append((key, wanted.extras))
    return found


def _requirements(name: str, extras: set[str]) -> Iterator[Requirement]:
    for text in importlib.metadata.requires(name) or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield wanted


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
