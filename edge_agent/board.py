"""The board that this process runs on, as the catalogue of hardware profiles sees it."""

import platform
import struct
from pathlib import Path

from firmware_profiles import catalog, detection
from firmware_profiles.catalog import Architecture


def architecture_here() -> Architecture | None:
    """Of this Python; None: no profile is for it."""
    return detection.architecture_of(platform.machine(), 8 * struct.calcsize("P"))


def proposed(root: Path, architecture: Architecture | None) -> str:
    """The name of the profile that fits the board below `root` best; "" where none is for its architecture."""
    if architecture is None:
        return ""
    return detection.detect(root, architecture, catalog.load_all()).profile.name
