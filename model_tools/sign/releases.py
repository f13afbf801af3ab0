"""Adds a bundle to the delegated `releases` role's metadata (TUF 1.0, section 4.5) and signs it with the key that stays offline."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from fleet_contract import blocks, delta, limits
from fleet_contract.bundle import Bundle, target_path
from fleet_contract.release import Delta, Release, delta_path, to_custom
from model_tools.errors import BadInput

LIFETIME = timedelta(days=365)
"""How long signed releases metadata is valid, unless the caller says otherwise."""


def load_key(path: Path) -> CryptoSigner:
    """The releases key: an unencrypted PKCS8 PEM file with an Ed25519 private key. Raises BadInput, which never repeats its bytes."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise BadInput(f"cannot read the key file {path}: {error.strerror}", field="key") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput(f"{path} is not an unencrypted PEM private key", field="key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} holds no Ed25519 key", field="key", limit="ed25519")
    return CryptoSigner(key)


def sign_releases(current: bytes, data: bytes, key: CryptoSigner, expires: datetime, deltas: Sequence[bytes] = ()) -> bytes:
    """The next version of the releases metadata, with the bundle (its archive's bytes) as one more target, signed by `key`.

    `current` must carry this key's own signature: otherwise whoever sent it could have us sign targets of his choice.
    `deltas` make this bundle from bundles that are released already; each becomes a target of its own, which the bundle's names.
    `expires` is aware; its microseconds are cut. Raises BadInput (foreign or malformed metadata, an expiry in the past of `current`, a version that
    is already released, a delta of another bundle or from an unknown one) and fleet_contract's BadBundle and BadDelta.
    """
    metadata = _read(current, key)
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


def is_released(current: bytes, data: bytes, key: CryptoSigner) -> bool:
    """Whether this very bundle is in the releases metadata already. Raises as sign_releases does."""
    bundle = Bundle(data)
    target = _read(current, key).signed.targets.get(target_path(bundle.manifest.task, bundle.manifest.version))
    return target is not None and target.hashes == {"sha256": bundle.sha256}


def released_bundles(current: bytes, key: CryptoSigner) -> set[str]:
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


def _read(current: bytes, key: CryptoSigner) -> Metadata[Targets]:
    try:
        metadata = Metadata[Targets].from_bytes(_sized(current))
        if not isinstance(metadata.signed, Targets):
            raise BadInput(f"expected targets metadata, this is {metadata.signed.type}", field="releases")
        key.public_key.verify_signature(metadata.signatures[key.public_key.keyid], metadata.signed_bytes)
    except DeserializationError as error:
        raise BadInput(f"the releases metadata is malformed: {error}", field="releases") from error
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
