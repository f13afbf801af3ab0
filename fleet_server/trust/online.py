"""What the server signs by itself (TUF 1.0, sections 4.4 and 4.6): pure, from versions and a time to metadata."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from fleet_contract.release import SIGNED_AT

SNAPSHOT_LIFETIME = timedelta(days=30)
TIMESTAMP_LIFETIME = timedelta(days=3)
TIMESTAMP_EVERY = timedelta(hours=6)
"""A device without a clock learns the time from it: this is how far behind it may be."""
_RFC3339 = "%Y-%m-%dT%H:%M:%SZ"


def described(version: int, data: bytes) -> MetaFile:
    """Names the very bytes: who steals the key of the role below cannot sign another file of this version."""
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def snapshot(version: int, meta: Mapping[str, MetaFile], now: datetime, key: Ed25519PrivateKey) -> bytes:
    return _signed(Snapshot(version=version, expires=_whole(now) + SNAPSHOT_LIFETIME, meta=dict(meta)), key)


def timestamp(version: int, snapshot: MetaFile, now: datetime, key: Ed25519PrivateKey) -> bytes:
    """Says when it was signed, too."""
    told = {SIGNED_AT: now.astimezone(UTC).strftime(_RFC3339)}
    expires = _whole(now) + TIMESTAMP_LIFETIME
    return _signed(Timestamp(version=version, expires=expires, snapshot_meta=snapshot, unrecognized_fields=told), key)


def signed_at(signed: Timestamp) -> datetime | None:
    """None for a timestamp that does not say."""
    try:
        return datetime.strptime(signed.unrecognized_fields[SIGNED_AT], _RFC3339).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return None


def is_snapshot_due(signed: Snapshot, now: datetime) -> bool:
    return signed.expires - now < SNAPSHOT_LIFETIME / 2


def is_timestamp_due(signed: Timestamp, now: datetime) -> bool:
    at = signed_at(signed)
    return at is None or now - at >= TIMESTAMP_EVERY or signed.expires - now < TIMESTAMP_LIFETIME / 2


def _signed(content: Snapshot | Timestamp, key: Ed25519PrivateKey) -> bytes:
    metadata = Metadata(content)
    metadata.sign(CryptoSigner(key))
    return metadata.to_bytes()


def _whole(now: datetime) -> datetime:
    return now.replace(microsecond=0)
