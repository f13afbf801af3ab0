"""Whether a bundle is whole, and released by those who may: what a device checks before it installs it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fleet_contract.bundle import Bundle, target_path
from fleet_contract.release import RELEASES
from model_tools.errors import BadInput
from model_tools.keys.chain import parse, read
from model_tools.sign.releases import missing_signatures


def check_release(bundle: Bundle, releases: bytes, current: Sequence[Path], now: datetime) -> int:
    """The version of the releases metadata that lists this very bundle, signed as the root and targets in `current` demand.
    Raises BadInput: signatures are missing, the metadata has expired at `now` (aware), or it lists another bundle, or none."""
    chain = read(*current)
    chain.check()
    missing = missing_signatures(releases, chain.targets.to_bytes())
    if missing:
        raise BadInput(f"the releases metadata lacks {missing} signatures that targets demands", field="releases", code="unsigned")
    signed = parse(releases, RELEASES).signed
    if signed.expires <= now:
        raise BadInput(f"the releases metadata has expired on {signed.expires:%Y-%m-%d}", field="releases", code="expired")
    path = target_path(bundle.manifest.task, bundle.manifest.version)
    target = signed.targets.get(path)
    if target is None or target.hashes.get("sha256") != bundle.sha256:
        what = "lists another bundle as" if target else "does not list"
        raise BadInput(f"the releases metadata {what} {path}", field="releases", code="not-released")
    return signed.version
