"""The rules of the client workflow (The Update Framework's specification 1.0, 5.3 to 5.6) apart from I/O: bytes in, verified metadata out.

Models, canonical form and signatures are python-tuf's, and this is the one place where its exceptions become ours. Whatever is wrong with
metadata is a Retry: it says nothing about the order, and whoever sends it can delay, but must not make a device reject a good bundle for ever.
Each delegated role is verified by the very delegator through which it was reached, so that no key can speak for another branch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from edge_agent.errors import Retry
from fleet_contract import limits

UNTRUSTED, EXPIRED = "tuf-untrusted", "tuf-expired"

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


def anchor(data: bytes) -> Root:
    """The pinned root, signed by its own keys; its expiry does not matter yet. Raises Retry."""
    with _ours("the pinned root"):
        metadata = Metadata[Root].from_bytes(data)
        return _verified(Root, "root", metadata, metadata.signed)


def next_root(trusted: Root, data: bytes) -> Root:
    """5.3.4 to 5.3.6: signed by the old keys and by its own, exactly one version on. Raises Retry."""
    with _ours("root"):
        metadata = Metadata[Root].from_bytes(data)
        root = _verified(Root, "root", metadata, trusted)
        _verified(Root, "root", metadata, root)
    _check_version("root", root.version, trusted.version + 1)
    return root


def timestamp(root: Root, data: bytes) -> Timestamp:
    """5.4.2. Raises Retry."""
    with _ours("timestamp"):
        found = _verified(Timestamp, "timestamp", Metadata[Timestamp].from_bytes(data), root)
    _check_bounds("timestamp", found.version, found.snapshot_meta.version)
    return found


def snapshot(root: Root, data: bytes) -> Snapshot:
    """5.5.3: what the snapshot keys once said, be it the one that the timestamp names or an older. Raises Retry."""
    with _ours("snapshot"):
        found = _verified(Snapshot, "snapshot", Metadata[Snapshot].from_bytes(data), root)
    _check_bounds("snapshot", found.version, *(meta.version for meta in found.meta.values()))
    return found


def named_snapshot(root: Root, data: bytes, named: MetaFile) -> Snapshot:
    """5.5.2 to 5.5.4: the very snapshot that the timestamp names. Raises Retry."""
    with _ours("snapshot"):
        named.verify_length_and_hashes(data)
    found = snapshot(root, data)
    _check_version("snapshot", found.version, named.version)
    return found


def targets(delegator: Root | Targets, role: str, data: bytes, named: MetaFile) -> Targets:
    """5.6.2 to 5.6.4, for targets and for every role below it: the version that the snapshot names. Raises Retry."""
    with _ours(role):
        named.verify_length_and_hashes(data)
        found = _verified(Targets, role, Metadata[Targets].from_bytes(data), delegator)
    _check_version(role, found.version, named.version)
    return found


def check_fresh(role: str, signed: Signed, now: datetime) -> None:
    """Raises Retry."""
    if signed.is_expired(now):
        raise Retry(f"metadata: {role} expired at {signed.expires.isoformat()}, it is {now.isoformat(timespec='seconds')}", code=EXPIRED)


def expiry(role: str, data: bytes) -> datetime:
    """What the metadata says of itself, unverified. Raises Retry."""
    with _ours(role):
        return Metadata.from_bytes(data).signed.expires


def check_content(target: TargetFile, file: IO[bytes]) -> None:
    """The length and every digest that the metadata gives; one of an unknown kind does not hold. Raises Retry."""
    with _ours(target.path):
        target.verify_length_and_hashes(file)


def role_keys(delegator: Targets, role: str) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys that a delegation gives a role, by TUF key id. Raises Retry."""
    delegations = delegator.delegations
    found = delegations.roles.get(role) if delegations and delegations.roles else None
    if delegations is None or found is None:
        return {}
    with _ours(role):
        keys = {keyid: delegations.keys[keyid] for keyid in found.keyids}
        return {
            keyid: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
            for keyid, key in keys.items()
            if key.keytype == "ed25519"
        }


def _verified(kind: type[T], role: str, metadata: Metadata[T], delegator: Root | Targets) -> T:
    if metadata.signed.type != kind.type:
        raise RepositoryError(f"{metadata.signed.type} came in the place of {role}")
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _check_version(role: str, version: int, named: int) -> None:
    if version != named:
        raise Retry(f"metadata: {role} has version {version} where {named} belongs", code=UNTRUSTED)


def _check_bounds(role: str, *versions: int) -> None:
    if max(versions) > limits.MAX_COUNT:
        raise Retry(f"metadata: {role} names version {max(versions)}, at most {limits.MAX_COUNT}", code=UNTRUSTED)


@contextmanager
def _ours(role: str) -> Iterator[None]:
    try:
        yield
    except (RepositoryError, DeserializationError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Retry(f"metadata: {role} does not hold: {error}", code=UNTRUSTED) from error
