"""Signing a bundle into the releases role."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets, Timestamp

from fleet_contract import blocks
from fleet_contract.bundle import Bundle
from fleet_contract.delta import Coding, Header, Kind, compress, operation
from fleet_contract.errors import BadBundle
from fleet_contract.release import Delta, release_of
from model_tools.errors import BadInput
from model_tools.sign.releases import load_key, sign_releases
from tests.fakes.tiny_bundle import tiny_bundle

EXPIRES = datetime(2031, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def key_of(seed: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def empty_releases(key: CryptoSigner) -> bytes:
    metadata = Metadata(Targets(expires=EXPIRES.replace(microsecond=0)))
    metadata.sign(key)
    return metadata.to_bytes()


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def key() -> CryptoSigner:
    return key_of(1)


def test_a_signed_release_names_the_bundle_its_digest_and_its_blocks(key):
    data = tiny_bundle(task="lenses", version="1.0")
    signed = Metadata[Targets].from_bytes(sign_releases(empty_releases(key), data, key, EXPIRES))
    target = signed.signed.targets["bundles/lenses-1.0.bundle"]
    assert (target.length, target.hashes) == (len(data), {"sha256": Bundle(data).sha256})
    assert blocks.from_custom(target.custom) == blocks.index_of(data)
    assert target.custom["edgefleet"] == {"task": "lenses", "version": "1.0"}
    assert signed.signed.version == 2
    assert signed.signed.expires == EXPIRES.replace(microsecond=0)
    key.public_key.verify_signature(signed.signatures[key.public_key.keyid], signed.signed_bytes)


def test_earlier_releases_stay(key):
    first = sign_releases(empty_releases(key), tiny_bundle(version="1"), key, EXPIRES)
    second = Metadata[Targets].from_bytes(sign_releases(first, tiny_bundle(version="2"), key, EXPIRES))
    assert len(second.signed.targets) == 2
    assert second.signed.version == 3


def test_the_same_inputs_give_the_same_bytes(key):
    current, data = empty_releases(key), tiny_bundle()
    assert sign_releases(current, data, key, EXPIRES) == sign_releases(current, data, key, EXPIRES)


def test_a_version_is_released_once(key):
    first = sign_releases(empty_releases(key), tiny_bundle(version="1"), key, EXPIRES)
    with pytest.raises(BadInput) as refused:
        sign_releases(first, tiny_bundle(version="1", note="other"), key, EXPIRES)
    assert (refused.value.code, refused.value.field) == ("already-released", "version")


def tampered(key: CryptoSigner) -> bytes:
    metadata = Metadata[Targets].from_bytes(sign_releases(empty_releases(key), tiny_bundle(), key, EXPIRES))
    metadata.signed.version = 9
    return metadata.to_bytes()


def timestamp(key: CryptoSigner) -> bytes:
    metadata = Metadata(Timestamp(expires=EXPIRES.replace(microsecond=0)))
    metadata.sign(key)
    return metadata.to_bytes()


@pytest.mark.parametrize(
    ("current", "code"),
    [
        pytest.param(lambda key: empty_releases(key_of(2)), "foreign-releases", id="signed by another key"),
        pytest.param(tampered, "foreign-releases", id="changed after signing"),
        pytest.param(timestamp, "bad-input", id="of another role type"),
        pytest.param(lambda key: b"{}", "bad-input", id="malformed"),
        pytest.param(lambda key: b"{" * 6_000_000, "bad-input", id="too large"),
    ],
)
def test_metadata_that_this_key_did_not_sign_is_never_signed_on(current, code, key):
    with pytest.raises(BadInput) as refused:
        sign_releases(current(key), tiny_bundle(), key, EXPIRES)
    assert (refused.value.code, refused.value.field) == (code, "releases")


def delta_between(base: bytes, target: bytes) -> bytes:
    header = Header(Bundle(base).sha256, Bundle(target).sha256, len(target))
    return bytes(header) + compress(operation(Kind.INSERT, len(target), 0, target), Coding(0, 0))


def test_a_delta_becomes_a_target_that_the_bundles_own_names(key):
    first, second = tiny_bundle(version="1"), tiny_bundle(version="2")
    made = delta_between(first, second)
    current = sign_releases(empty_releases(key), first, key, EXPIRES)
    targets = Metadata[Targets].from_bytes(sign_releases(current, second, key, EXPIRES, [made])).signed.targets
    (told,) = release_of(targets["bundles/tiny-2.bundle"].custom).deltas
    assert told == Delta(Bundle(first).sha256, f"bundles/tiny-2.from-{Bundle(first).sha256[:16]}.delta")
    assert targets[told.path].hashes == {"sha256": hashlib.sha256(made).hexdigest()}
    assert blocks.from_custom(targets[told.path].custom) == blocks.index_of(made)
    assert "edgefleet" not in targets[told.path].custom


@pytest.mark.parametrize(
    ("base", "target"),
    [
        pytest.param(tiny_bundle(version="0"), tiny_bundle(version="2"), id="from a bundle that was never released"),
        pytest.param(tiny_bundle(version="1"), tiny_bundle(version="3"), id="of another bundle"),
    ],
)
def test_a_delta_that_does_not_belong_is_not_signed(base, target, key):
    current = sign_releases(empty_releases(key), tiny_bundle(version="1"), key, EXPIRES)
    with pytest.raises(BadInput) as refused:
        sign_releases(current, tiny_bundle(version="2"), key, EXPIRES, [delta_between(base, target)])
    assert refused.value.field == "delta"


def test_a_broken_bundle_is_not_signed(key):
    data = bytearray(tiny_bundle())
    data[-1] ^= 1
    with pytest.raises(BadBundle):
        sign_releases(empty_releases(key), bytes(data), key, EXPIRES)


def test_a_key_file_gives_the_key(tmp_path):
    private = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    (tmp_path / "releases.pem").write_bytes(pem(private))
    assert load_key(tmp_path / "releases.pem").public_key.keyid == key_of(1).public_key.keyid


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n", id="malformed"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())), id="not ed25519"),
    ],
)
def test_a_bad_key_file_is_named_and_not_repeated(content, tmp_path):
    path = tmp_path / "releases.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as refused:
        load_key(path)
    assert refused.value.field == "key"
    assert "secret" not in str(refused.value)
