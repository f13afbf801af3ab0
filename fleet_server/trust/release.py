"""What a release must be before the repository takes it: checks of signed metadata against the bundle it names and the deltas that make it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from fleet_contract import blocks, delta
from fleet_contract.blocks import BlockIndex
from fleet_contract.bundle import Bundle, target_path
from fleet_contract.errors import ContractError
from fleet_contract.release import RELEASES, Delta, Release, delta_path, release_of
from fleet_server.errors import BadRequest, Conflict
from fleet_server.ports import Target


@dataclass(frozen=True)
class FoundBundle:
    """A bundle archive that was read and holds together."""

    path: str
    task: str
    version: str
    sha256: str
    length: int
    blocks: BlockIndex


@dataclass(frozen=True)
class FoundDelta:
    """A delta that was applied: it makes the bundle from the released one with the digest `base`."""

    path: str
    base: str
    sha256: str
    length: int
    blocks: BlockIndex


def check_bundle(path: Path) -> FoundBundle:
    """Raises BadRequest when the file is not a whole, canonical bundle."""
    try:
        bundle = Bundle(path)
        index = blocks.index_of_file(path)
    except ContractError as error:
        raise BadRequest(f"not a usable bundle: {error}", field="bundle", limit=error.limit, code=error.code) from error
    manifest = bundle.manifest
    name = target_path(manifest.task, manifest.version)
    return FoundBundle(name, manifest.task, manifest.version, bundle.sha256, bundle.length, index)


def check_delta(path: Path, found: FoundBundle, released: Mapping[str, Path]) -> FoundDelta:
    """Apply a delta as a device would. `released` is where the archives of released bundles lie, by digest.
    Raises BadRequest when its base is not among them or it does not make the bundle."""
    try:
        header = delta.read_header(path)
        if header.base not in released:
            raise BadRequest(f"the delta's base {header.base} is not released here", field="delta")
        if header.result != found.sha256:
            raise BadRequest(f"the delta makes another bundle, {header.result}", field="delta")
        delta.apply(released[header.base], path, _Nowhere(), found.length)
    except ContractError as error:
        raise BadRequest(f"not a usable delta: {error}", field="delta", limit=error.limit, code=error.code) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FoundDelta(delta_path(found.path, header.base), header.base, digest, path.stat().st_size, blocks.index_of_file(path))


def bundles_in(signed: Targets) -> dict[str, str]:
    """The target paths of the released bundles, by digest."""
    return {target.hashes["sha256"]: path for path, target in signed.targets.items() if path.endswith(".bundle")}


def check_release(
    delegator: Metadata[Targets],
    current: Metadata[Targets],
    data: bytes,
    found: FoundBundle,
    now: datetime,
    deltas: Sequence[FoundDelta] = (),
) -> Target:
    """Return the bundle's target that `data` adds to `current`, beside those of the deltas. Raises BadRequest (not well signed, or about other files)
    or Conflict (not the next version, or it takes back or changes what was released). The very bytes of `current` are taken again when they name
    the bundle and the deltas."""
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
    wanted = {found.path, *(made.path for made in deltas)}
    if not again and added != wanted:
        raise BadRequest(
            f"the new releases metadata must add {sorted(wanted)} and nothing else, it adds {sorted(added)}: upload every delta that it names",
            field="targets",
        )
    for made in deltas:
        _check_target(signed.targets.get(made.path), made)
    custom = _check_target(signed.targets.get(found.path), found)
    _check_told(custom, found, deltas)
    return Target(found.path, found.sha256, found.length, found.blocks)


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


def _check_target(target: TargetFile | None, found: FoundBundle | FoundDelta) -> dict:
    """Its `custom`."""
    if target is None:
        raise BadRequest(f"the releases metadata does not name {found.path}", field="targets")
    if target.length != found.length or target.hashes != {"sha256": found.sha256}:
        raise BadRequest(f"the metadata of {found.path} is not about this file: another length or SHA-256", field="bundle")
    try:
        index = blocks.from_custom(target.custom)
    except ContractError as error:
        raise BadRequest(str(error), field="custom") from error
    if index != found.blocks:
        raise BadRequest(f"the block index of {found.path} is not that of the file", field="custom")
    return target.custom


def _check_told(custom: dict, found: FoundBundle, deltas: Sequence[FoundDelta]) -> None:
    try:
        told = release_of(custom)
    except ContractError as error:
        raise BadRequest(str(error), field="custom") from error
    if (told.task, told.version) != (found.task, found.version):
        raise BadRequest(f"custom.edgefleet of {found.path} must name task and version as the manifest does", field="custom")
    if told != Release(found.task, found.version, [Delta(made.base, made.path) for made in deltas]):
        raise BadRequest(f"custom.edgefleet of {found.path} must list the deltas that were uploaded, in their order", field="custom")


class _Nowhere:
    """Takes what a delta makes: apply itself compares the digest."""

    def write(self, data: bytes) -> int:
        return len(data)
