"""The peers' environments: each server in a virtual environment of its own, made once in a cache folder."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

_INSTALL_S = 1_800.0
_WANTED: Mapping[str, tuple[str, ...]] = {
    "mlserver": ("mlserver>=1.6", "uvloop<0.22", "onnxruntime"),  # with a newer uvloop it crashes in a loop
    "litserve": ("litserve", "onnxruntime"),
    "pytriton": ("nvidia-pytriton", "onnxruntime"),
}
NAMES = tuple(_WANTED)


class NotInstalled(Exception):
    """Why a peer cannot be measured here."""


def python_of(peer: str, cache: Path, python: str) -> Path:
    """The interpreter of the peer's environment below `cache`, made with `python` where it is not there. Raises NotInstalled."""
    home = cache / peer
    found, done = home / "bin" / "python", home / ".installed"
    if not done.exists():
        _run([python, "-m", "venv", str(home)])
        _run([str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_WANTED[peer]])
        done.touch()
    return found


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        raise NotInstalled(told.strip().splitlines()[-1]) from error
