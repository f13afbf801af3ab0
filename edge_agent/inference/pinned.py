"""Bundles that lie on this device and come from no fleet: whoever names one by its digest says which bytes are meant."""

import re
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import Fatal
from fleet_contract.bundle import Bundle
from fleet_contract.errors import ContractError

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pinned:
    """`sha256` None: whatever lies there."""

    path: Path
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Raises Fatal."""
        if self.sha256 is not None and not _DIGEST.fullmatch(self.sha256):
            raise Fatal(f"the digest {self.sha256[:80]!r} of {self.path} must be 64 hexadecimal digits in lower case", code="config")


def parse(text: str) -> Pinned:
    """FILE or FILE@SHA256. Raises Fatal."""
    path, mark, digest = text.rpartition("@")
    return Pinned(Path(path), digest) if mark else Pinned(Path(text))


def open_pinned(pinned: Pinned) -> Bundle:
    """Raises Fatal: no such file, no bundle, or another than is meant."""
    try:
        bundle = Bundle(pinned.path)
    except (OSError, ContractError) as error:
        raise Fatal(f"{pinned.path} is no bundle that can be read: {error}", code="bundle") from error
    if pinned.sha256 not in (None, bundle.sha256):
        raise Fatal(f"{pinned.path} has the digest {bundle.sha256}, not {pinned.sha256}", code="bundle")
    return bundle
