"""Whether new root, targets and releases metadata may take the place of the old: pure (TUF 1.0, sections 5.3 and 5.6).

What comes through here is what devices will follow, so everything that would leave a device stuck is refused: a gap in the chain of roots, a role
that nobody signed for, a key that this server does not hold, metadata that has expired.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Role, Root, Targets
from tuf.api.serialization import DeserializationError

from fleet_contract import limits
from fleet_contract.release import ORDERS, RELEASES
from fleet_server.errors import BadRequest, Conflict
from fleet_server.ports import TrustChange

NAME = re.compile(r"([1-9][0-9]{0,9})\.(root|targets|releases)\.json")
_KINDS = {"root": Root, "targets": Targets, "releases": Targets}
_PATHS = {RELEASES: ["bundles/*"], ORDERS: ["orders/*"]}


@dataclass(frozen=True)
class Standing:
    """What the repository serves now; `roots` is every version of root. None of it before the first installation."""

    roots: Mapping[int, Metadata[Root]]
    targets: Metadata[Targets] | None = None
    releases: Metadata[Targets] | None = None

    @property
    def root(self) -> Metadata[Root] | None:
        return self.roots[max(self.roots)] if self.roots else None


def check(standing: Standing, files: Mapping[str, bytes], held: Mapping[str, frozenset[str]], now: datetime) -> TrustChange:
    """What installing `files` (by name, as 2.root.json) would change; nothing if it is all there. `held` are the TUF key ids of the server's own
    keys, by role. Raises BadRequest or Conflict."""
    given = _read(files)
    roots = _follow_roots(standing, given["root"])
    root = roots[max(roots)]
    targets = _newest("targets", given["targets"], standing.targets)
    releases = _newest("releases", given["releases"], standing.releases)
    _verify("targets", root, f"root {root.signed.version}", targets)
    _check_delegations(targets.signed)
    _verify(RELEASES, targets, f"targets {targets.signed.version}", releases)
    _check_held(root.signed, targets.signed, held)
    _check_releases(standing.releases, releases)
    for role, metadata in (("root", root), ("targets", targets), ("releases", releases)):
        if metadata.signed.is_expired(now):
            raise BadRequest(f"{role} {metadata.signed.version} expired at {metadata.signed.expires.isoformat()}", field="expires")
    new = {f"{version}.root.json" for version in roots.keys() - standing.roots.keys()}
    new |= {f"{targets.signed.version}.targets.json"} if targets is not standing.targets else set()
    new |= {f"{releases.signed.version}.releases.json"} if releases is not standing.releases else set()
    return _describe(standing, {name: files[name] for name in sorted(new)}, root, targets, releases)


def _read(files: Mapping[str, bytes]) -> dict[str, dict[int, Metadata]]:
    if not 1 <= len(files) <= limits.MAX_TRUST_UPLOAD_ENTRIES:
        raise BadRequest(f"{len(files)} metadata files", field="files", limit=limits.MAX_TRUST_UPLOAD_ENTRIES)
    found: dict[str, dict[int, Metadata]] = {role: {} for role in _KINDS}
    for name, data in files.items():
        match = NAME.fullmatch(name)
        if not match:
            raise BadRequest(f"{name!r} is not called N.root.json, N.targets.json or N.releases.json", field="files")
        metadata = _parse(name, match[2], data)
        if metadata.signed.version != int(match[1]):
            raise BadRequest(f"{name} holds version {metadata.signed.version}", field=name)
        found[match[2]][metadata.signed.version] = metadata
    return found


def _parse(name: str, role: str, data: bytes) -> Metadata:
    if len(data) > limits.MAX_METADATA_BYTES:
        raise BadRequest(f"{name} has {len(data)} bytes", field=name, limit=limits.MAX_METADATA_BYTES)
    try:
        metadata = Metadata.from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is malformed: {error}", field=name) from error
    if type(metadata.signed) is not _KINDS[role]:
        raise BadRequest(f"{name} holds {metadata.signed.type} metadata", field=name)
    return metadata


def _follow_roots(standing: Standing, given: Mapping[int, Metadata[Root]]) -> dict[int, Metadata[Root]]:
    roots = dict(standing.roots)
    for version in sorted(given):
        root = given[version]
        if version in roots:
            if roots[version].signed != root.signed:
                raise Conflict(f"root {version} is installed already, and another one", field=f"{version}.root.json")
            continue
        if version != max(roots, default=0) + 1:
            wanted = max(roots, default=0) + 1
            raise Conflict(f"root {version} where root {wanted} must follow", field=f"{version}.root.json", limit=wanted)
        for by in (roots[version - 1], root) if version > 1 else (root,):
            _verify("root", by, f"root {by.signed.version}", root)
        roots[version] = root
    if not roots:
        raise BadRequest("the first installation needs 1.root.json", field="1.root.json")
    if not roots[max(roots)].signed.consistent_snapshot:
        raise BadRequest("root must ask for consistent snapshots", field="consistent_snapshot")
    return roots


def _newest(role: str, given: Mapping[int, Metadata[Targets]], current: Metadata[Targets] | None) -> Metadata[Targets]:
    if not given:
        if current is None:
            raise BadRequest(f"the first installation needs 1.{role}.json", field=f"1.{role}.json")
        return current
    newest = given[max(given)]
    version = newest.signed.version
    if current is None or version > current.signed.version:
        return newest
    if newest.signed != current.signed:
        older = "older than" if version < current.signed.version else "another than"
        raise Conflict(
            f"{role} {version} is {older} the installed {current.signed.version}: begin anew from `fleet-server trust export`",
            field=f"{version}.{role}.json",
            limit=current.signed.version + 1,
        )
    return current


def _verify(role: str, by: Metadata, called: str, metadata: Metadata) -> None:
    try:
        result = by.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except ValueError as error:
        raise BadRequest(f"{called} has no role {role}", field=role) from error
    version = metadata.signed.version
    if not result:
        raise BadRequest(
            f"{role} {version} has {len(result.signed)} of the {result.threshold} signatures that {called} demands",
            field=f"{version}.{role}.json",
            limit=result.threshold,
            code="unsigned",
        )
    if len({str(sorted(key.keyval.items())) for key in result.signed.values()}) < result.threshold:
        raise BadRequest(f"{called} counts one key of {role} more than once", field=role)


def _check_delegations(targets: Targets) -> None:
    roles = targets.delegations.roles if targets.delegations else None
    if roles is None or set(roles) != set(_PATHS) or targets.targets:
        raise BadRequest(f"targets must delegate to {RELEASES} and {ORDERS}, and do nothing else", field="delegations")
    for role, paths in _PATHS.items():
        if roles[role].paths != paths or not roles[role].terminating:
            raise BadRequest(f"targets must delegate {paths} to {role}, terminating", field="delegations")


def _check_held(root: Root, targets: Targets, held: Mapping[str, frozenset[str]]) -> None:
    named = {"snapshot": root.roles["snapshot"], "timestamp": root.roles["timestamp"], ORDERS: targets.get_delegated_role(ORDERS)}
    for role, found in named.items():
        if found.threshold != 1 or not held[role].intersection(found.keyids):
            raise BadRequest(f"the {role} key that is named is not one that this server holds: see its online.json", field=role)


def _check_releases(before: Metadata[Targets] | None, after: Metadata[Targets]) -> None:
    old = before.signed.targets if before else {}
    foreign = sorted(path for path, target in after.signed.targets.items() if old.get(path) != target)
    if foreign:
        raise BadRequest(f"{foreign[0]} is new in the releases: bundles are published, not installed", field="targets")
    if after.signed.delegations is not None:
        raise BadRequest("the releases role may not delegate further", field="delegations")


def _describe(standing: Standing, files: Mapping[str, bytes], root: Metadata, targets: Metadata, releases: Metadata) -> TrustChange:
    after = _keys(root.signed, targets.signed)
    before = _keys(standing.root.signed, standing.targets.signed) if standing.root and standing.targets else {}
    lost = {role: sorted(set(before.get(role, [])) - set(keyids)) for role, keyids in after.items()}
    won = {role: sorted(set(keyids) - set(before.get(role, []))) for role, keyids in after.items()}
    old = standing.releases.signed.targets.keys() if standing.releases else set()
    return TrustChange(
        files=files,
        versions={"root": root.signed.version, "targets": targets.signed.version, "releases": releases.signed.version},
        revoked={role: keyids for role, keyids in lost.items() if keyids},
        added={role: keyids for role, keyids in won.items() if keyids},
        dropped=sorted(old - releases.signed.targets.keys()),
    )


def _keys(root: Root, targets: Targets) -> dict[str, list[str]]:
    roles: dict[str, Role] = {**root.roles, **(targets.delegations.roles if targets.delegations else {})}
    return {name: role.keyids for name, role in roles.items()}
