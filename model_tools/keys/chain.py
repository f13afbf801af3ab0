"""The offline half of a fleet's metadata as it lies in a folder: root, targets and releases, and who still has to sign what."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from fleet_contract import limits
from fleet_contract.release import RELEASES
from model_tools.errors import BadInput
from model_tools.storage import write_whole

ROOT, TARGETS = "root", "targets"
ROLES = (ROOT, TARGETS, RELEASES)
_FILE = re.compile(r"([1-9][0-9]{0,9})\.(root|targets|releases)\.json")
_KINDS = {ROOT: Root, TARGETS: Targets, RELEASES: Targets}


@dataclass(frozen=True)
class Need:
    """`threshold` of `keys` have to sign, as `by` demands; `signed` of them have."""

    by: str
    keys: Mapping[str, Key]
    threshold: int
    signed: frozenset[str]

    @property
    def missing(self) -> int:
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True)
class Chain:
    """The newest of each role; `roots` by version, as far as they are at hand."""

    roots: Mapping[int, Metadata[Root]]
    targets: Metadata[Targets]
    releases: Metadata[Targets]

    @property
    def root(self) -> Metadata[Root]:
        return self.roots[max(self.roots)]

    def newest(self, role: str) -> Metadata:
        return {ROOT: self.root, TARGETS: self.targets, RELEASES: self.releases}[role]

    def needs(self, role: str, version: int | None = None) -> list[Need]:
        """Who has to sign this role's newest metadata; of root any version. A root is signed by those of the one before it and by its own."""
        if role == TARGETS:
            return [_need(self.root.signed, f"root {self.root.signed.version}", TARGETS, self.targets)]
        if role == RELEASES:
            return [_need(self.targets.signed, f"targets {self.targets.signed.version}", RELEASES, self.releases)]
        version = max(self.roots) if version is None else version
        before = [self.roots[version - 1].signed] if version - 1 in self.roots else []
        return [_need(root, f"root {root.version}", ROOT, self.roots[version]) for root in (*before, self.roots[version].signed)]

    def check(self) -> None:
        """Raises BadInput unless the newest of every role is signed as it must be, along the roots that are at hand."""
        found = [(ROOT, version) for version in sorted(self.roots)] + [(TARGETS, None), (RELEASES, None)]
        for role, version in found:
            for need in self.needs(role, version):
                if need.missing:
                    raise BadInput(
                        f"{name_of(role, self.roots[version] if version else self.newest(role))} has {len(need.signed)} of the "
                        f"{need.threshold} signatures that {need.by} demands",
                        field=role,
                        limit=need.threshold,
                        code="unsigned",
                    )


@dataclass(frozen=True)
class Draft:
    """New metadata, before or while it is being signed; None for a role that stays as it is."""

    root: Metadata[Root] | None = None
    targets: Metadata[Targets] | None = None
    releases: Metadata[Targets] | None = None

    def items(self) -> Iterator[tuple[str, Metadata]]:
        for role in ROLES:
            metadata = getattr(self, role)
            if metadata is not None:
                yield role, metadata

    def after(self, chain: Chain | None) -> Chain:
        """What there is once the draft is installed. Raises BadInput for a draft that begins nothing and lacks a role."""
        old = {role: chain.newest(role) for role in ROLES} if chain else {}
        now = {**old, **dict(self.items())}
        if len(now) != len(ROLES):
            raise BadInput(f"there is no {'/'.join(sorted(set(ROLES) - set(now)))} metadata", field="current")
        roots = dict(chain.roots) if chain else {}
        return Chain({**roots, now[ROOT].signed.version: now[ROOT]}, now[TARGETS], now[RELEASES])

    def write(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for role, metadata in self.items():
            written.append(folder / name_of(role, metadata))
            write(written[-1], metadata)
        return written


@dataclass
class _Found:
    """All files of a role, by version."""

    files: dict[str, dict[int, Path]] = field(default_factory=lambda: {role: {} for role in ROLES})

    def take(self, folder: Path) -> "_Found":
        for path in folder.iterdir() if folder.is_dir() else ():
            match = _FILE.fullmatch(path.name)
            if match:
                self.files[match[2]][int(match[1])] = path
        return self


def read(*folders: Path) -> Chain:
    """What the folders hold together, a later one before an earlier. Raises BadInput; signatures are not checked, see Chain.check."""
    found = _Found()
    for folder in folders:
        found.take(folder)
    lacking = [role for role in ROLES if not found.files[role]]
    if lacking:
        places = ", ".join(map(str, folders))
        raise BadInput(f"{places} holds no N.{lacking[0]}.json: give the folder of the newest metadata", field="current")
    roots = {version: _read_file(path, ROOT) for version, path in found.files[ROOT].items()}
    newest = {role: _read_file(found.files[role][max(found.files[role])], role) for role in (TARGETS, RELEASES)}
    return Chain(roots, newest[TARGETS], newest[RELEASES])


def _read_file(path: Path, role: str) -> Metadata:
    metadata = parse(path.read_bytes(), role)
    if name_of(role, metadata) != path.name:
        raise BadInput(f"{path} holds version {metadata.signed.version}", field=role)
    return metadata


def write(path: Path, metadata: Metadata) -> None:
    write_whole(path, metadata.to_bytes())


def role_of(path: Path) -> str:
    """By the file's name. Raises BadInput."""
    match = _FILE.fullmatch(path.name)
    if not match:
        raise BadInput(f"{path.name} is not called N.root.json, N.targets.json or N.releases.json", field="file")
    return match[2]


def parse(data: bytes, role: str) -> Metadata:
    """Raises BadInput for what is no metadata of this role."""
    if len(data) > limits.MAX_METADATA_BYTES:
        raise BadInput(f"{role} metadata of {len(data)} bytes", field=role, limit=limits.MAX_METADATA_BYTES)
    try:
        metadata = Metadata.from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError, RecursionError) as error:
        raise BadInput(f"malformed {role} metadata: {error}", field=role) from error
    if type(metadata.signed) is not _KINDS[role]:
        raise BadInput(f"metadata of type {metadata.signed.type} where {role} is expected", field=role)
    return metadata


def name_of(role: str, metadata: Metadata) -> str:
    return f"{metadata.signed.version}.{role}.json"


def _need(delegator: Root | Targets, by: str, role: str, metadata: Metadata) -> Need:
    try:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except ValueError as error:
        raise BadInput(f"{by} does not say who signs {role}: {error}", field=role) from error
    return Need(by, {**result.signed, **result.unsigned}, result.threshold, frozenset(result.signed))
