"""What a release must be before the repository takes it: pure checks of signed metadata against the bundle it names."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from fleet_contract import blocks
from fleet_contract.blocks import BlockIndex
from fleet_contract.bundle import Bundle, target_path
from fleet_contract.errors import ContractError
from fleet_server.errors import BadRequest, Conflict
from fleet_server.ports import Target
from fleet_server.trust.genesis import RELEASES


@dataclass(frozen=True)
class FoundBundle:
    """A bundle archive that was read and holds together."""

    path: str
    task: str
    version: str
    sha256: str
    length: int
    blocks: BlockIndex


def check_bundle(path: Path) -> FoundBundle:
    """Raises BadRequest when the file is not a whole, canonical bundle."""
    try:
        bundle = Bundle(path)
        index = blocks.index_of(path.read_bytes())
    except ContractError as error:
        raise BadRequest(f"not a usable bundle: {error}", field="bundle", limit=error.limit, code=error.code) from error
    manifest = bundle.manifest
    name = target_path(manifest.task, manifest.version)
    return FoundBundle(name, manifest.task, manifest.version, bundle.sha256, bundle.length, index)


def check_release(delegator: Metadata[Targets], current: Metadata[Targets], data: bytes, found: FoundBundle, now: datetime) -> Target:
    """Return the target that `data` adds to `current`. Raises BadRequest (not well signed, or about another bundle) or Conflict (not the next version,
    or it takes back or changes what was released). The very bytes of `current` are taken again when they name the bundle."""
    following = _verified(delegator, data)
    signed = following.signed
    if signed.is_expired(now):
        raise BadRequest(f"the releases metadata expired at {signed.expires.isoformat()}", field="expires")
    again = signed == current.signed
    if not again and signed.version != current.signed.version + 1:
        wanted = current.signed.version + 1
        raise Conflict(
            f"releases version {signed.version} where {wanted} must follow: sign on the newest one", field="version", limit=wanted
        )
    _check_kept(current.signed.targets, signed.targets)
    added = signed.targets.keys() - current.signed.targets.keys()
    if not again and added != {found.path}:
        raise BadRequest(f"the new releases metadata must add {found.path} and nothing else, it adds {sorted(added)}", field="targets")
    return _check_target(signed.targets.get(found.path), found)


def _verified(delegator: Metadata[Targets], data: bytes) -> Metadata[Targets]:
    try:
        following = Metadata[Targets].from_bytes(data)
        if not isinstance(following.signed, Targets):
            raise BadRequest(f"metadata of type {following.signed.type!r} where targets must be", field="releases")
        delegator.signed.verify_delegate(RELEASES, following.signed_bytes, following.signatures)
    except (DeserializationError, RepositoryError, ValueError) as error:
        raise BadRequest(f"the releases metadata is not signed by the releases role: {error}", field="releases") from error
    if following.signed.delegations is not None:
        raise BadRequest("the releases role may not delegate further", field="delegations")
    return following


def _check_kept(before: dict[str, TargetFile], after: dict[str, TargetFile]) -> None:
    lost = sorted(path for path, target in before.items() if after.get(path) != target)
    if lost:
        raise Conflict(f"the new releases metadata takes back or changes {lost[0]}; a release is for ever", field="targets")


def _check_target(target: TargetFile | None, found: FoundBundle) -> Target:
    if target is None:
        raise BadRequest(f"the releases metadata does not name {found.path}", field="targets")
    if target.length != found.length or target.hashes.get("sha256") != found.sha256:
        raise BadRequest(f"the metadata of {found.path} is not about this bundle: another length or SHA-256", field="bundle")
    try:
        index = blocks.from_custom(target.custom)
    except ContractError as error:
        raise BadRequest(str(error), field="custom") from error
    if index != found.blocks:
        raise BadRequest(f"the block index of {found.path} is not that of the bundle", field="custom")
    if target.custom.get("edgefleet") != {"task": found.task, "version": found.version}:
        raise BadRequest(f"custom.edgefleet of {found.path} must name task and version as the manifest does", field="custom")
    return Target(found.path, found.sha256, found.length, index)
