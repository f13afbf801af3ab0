"""Adds a bundle to the delegated `releases` role's metadata (TUF 1.0, section 4.5) and signs it with the key that stays offline."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, TargetFile, Targets

from fleet_contract import blocks, delta, limits
from fleet_contract.bundle import Bundle, target_path
from fleet_contract.release import RELEASES, Delta, Release, delta_path, release_of, to_custom
from model_tools.errors import BadInput
from model_tools.keys import pkcs8, store
from model_tools.keys.chain import Chain, parse
from model_tools.keys.passphrases import Passphrase, unencrypted

LIFETIME = timedelta(days=365)
"""How long signed releases metadata is valid, unless the caller says otherwise."""


def load_key(path: Path, passphrase: Passphrase = unencrypted) -> Signer:
    """The releases key: a PEM file with an Ed25519 private key, or the NAME.pub of a key in a token. Raises BadInput, which never repeats its
    bytes."""
    if path.suffix == ".pub":
        return store.load(path).signer(passphrase)
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read the key file {path}: {error.strerror}", field="key") from error
    return CryptoSigner(pkcs8.load(pem, passphrase(path.stem, False) if pkcs8.is_encrypted(pem) else None, str(path)))


def sign_releases(
    current: bytes, data: bytes, key: Signer, expires: datetime, deltas: Sequence[bytes] = (), trusted: Chain | None = None
) -> bytes:
    """The next version of the releases metadata, with the bundle (its archive's bytes) as one more target, signed by `key`.

    `current` must carry this key's own signature, or with `trusted` those that its targets demand: otherwise whoever sent it could have us sign
    targets of his choice.
    `deltas` make this bundle from bundles that are released already; each becomes a target of its own, which the bundle's names.
    `expires` is aware; its microseconds are cut. Raises BadInput (foreign or malformed metadata, an expiry in the past of `current`, a version that
    is already released, a delta of another bundle or from an unknown one) and fleet_contract's BadBundle and BadDelta.
    """
    metadata = _read(current, key, trusted)
    bundle = Bundle(data)
    path = target_path(bundle.manifest.task, bundle.manifest.version)
    if path in metadata.signed.targets:
        raise BadInput(
            f"{bundle.manifest.task} {bundle.manifest.version} is released already: give the bundle another version",
            field="version",
            code="already-released",
        )
    bases = [_base_of(wire, bundle, metadata.signed) for wire in deltas]
    listed = [Delta(base, delta_path(path, base)) for base in bases]
    release = Release(bundle.manifest.task, bundle.manifest.version, listed)
    metadata.signed.targets[path] = _target(path, data, release)
    for told, wire in zip(listed, deltas, strict=True):
        metadata.signed.targets[told.path] = _target(told.path, wire, None)
    metadata.signed.version += 1
    metadata.signed.expires = expires.astimezone(UTC).replace(microsecond=0)
    metadata.sign(key)
    return _sized(metadata.to_bytes())


def add_signature(current: bytes, draft: bytes, data: bytes, key: Signer, trusted: Chain | None = None) -> bytes:
    """`draft` with the signature of `key`, too: another holder has made it of the same `current` and the same bundle.

    Raises BadInput when the draft does anything else than release this bundle and deltas that make it.
    """
    before, after, bundle = _read(current, key, trusted), _parsed(draft), Bundle(data)
    path = target_path(bundle.manifest.task, bundle.manifest.version)
    added = {name: target for name, target in after.signed.targets.items() if before.signed.targets.get(name) != target}
    if after.signed.version != before.signed.version + 1 or before.signed.targets.keys() - after.signed.targets.keys():
        raise BadInput("the draft is not the next version of these releases", field="draft")
    if path not in added or added[path] != _target(path, data, release_of(added[path].custom)):
        raise BadInput(f"the draft does not release this bundle as {path}", field="draft")
    foreign = added.keys() - {path} - {told.path for told in release_of(added[path].custom).deltas}
    if foreign:
        raise BadInput(f"the draft also releases {sorted(foreign)[0]}", field="draft")
    after.sign(key, append=True)
    return _sized(after.to_bytes())


def missing_signatures(signed: bytes, targets: bytes) -> int:
    """How many of the signatures that this targets metadata demands of releases are lacking. Raises BadInput."""
    releases = _parsed(signed)
    try:
        result = parse(targets, "targets").signed.get_verification_result(RELEASES, releases.signed_bytes, releases.signatures)
    except ValueError as error:
        raise BadInput(f"the targets metadata does not say who signs releases: {error}", field="targets") from error
    return max(0, result.threshold - len(result.signed))


def is_released(current: bytes, data: bytes, key: Signer | None) -> bool:
    """Whether this very bundle is in the releases metadata already. Raises as sign_releases does; without a key the metadata's word is taken."""
    bundle, metadata = Bundle(data), _read(current, key) if key else _parsed(current)
    target = metadata.signed.targets.get(target_path(bundle.manifest.task, bundle.manifest.version))
    return target is not None and target.hashes == {"sha256": bundle.sha256}


def released_bundles(current: bytes, key: Signer) -> set[str]:
    """The digests of the bundles in the releases metadata. Raises as sign_releases does."""
    return _bundles_in(_read(current, key).signed)


def _bundles_in(signed: Targets) -> set[str]:
    return {target.hashes["sha256"] for path, target in signed.targets.items() if path.endswith(".bundle")}


def _base_of(wire: bytes, bundle: Bundle, signed: Targets) -> str:
    """The digest of the released bundle that this delta makes `bundle` from."""
    header = delta.read_header(wire)
    if header.result != bundle.sha256:
        raise BadInput(f"the delta makes another bundle, {header.result}", field="delta")
    if header.base not in _bundles_in(signed):
        raise BadInput(f"the delta's base {header.base} is not released: no device holds it", field="delta")
    return header.base


def _target(path: str, data: bytes, release: Release | None) -> TargetFile:
    custom = to_custom(blocks.index_of(data), release)
    return TargetFile(len(data), {"sha256": hashlib.sha256(data).hexdigest()}, path, {"custom": custom})


def _parsed(data: bytes) -> Metadata[Targets]:
    return parse(_sized(data), RELEASES)


def _read(current: bytes, key: Signer, trusted: Chain | None = None) -> Metadata[Targets]:
    metadata = _parsed(current)
    if trusted is not None:
        if missing_signatures(current, trusted.targets.to_bytes()) or key.public_key.keyid not in trusted.needs(RELEASES)[0].keys:
            raise BadInput("the releases are not signed as targets demands, or not by a fellow of this key", field="releases")
        return metadata
    try:
        key.public_key.verify_signature(metadata.signatures[key.public_key.keyid], metadata.signed_bytes)
    except (KeyError, UnverifiedSignatureError):
        raise BadInput(
            "the releases metadata is not signed by this key: a wrong key, or metadata that was tampered with",
            field="releases",
            code="foreign-releases",
        ) from None
    return metadata


def _sized(data: bytes) -> bytes:
    if len(data) > limits.MAX_METADATA_BYTES:
        raise BadInput(
            f"releases metadata of {len(data)} bytes, at most {limits.MAX_METADATA_BYTES}",
            field="releases",
            limit=limits.MAX_METADATA_BYTES,
        )
    return data
