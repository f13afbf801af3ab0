"""OpenSSF Model Signing (v1.0) with an EC P-256 key: an in-toto statement of a file's digest in a Sigstore bundle, as the stock `model_signing verify
key` reads it. For people and tools outside the fleet: devices go by the releases metadata.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from fleet_contract import limits
from model_tools.errors import BadInput
from model_tools.keys import pkcs8
from model_tools.keys.passphrases import Passphrase, unencrypted
from model_tools.storage import write_whole

PRIVATE, PUBLIC = ".pem", ".public.pem"
_CURVE = ec.SECP256R1()


def create_key(folder: Path, name: str, passphrase: Passphrase, random: Callable[[int], bytes] = os.urandom) -> tuple[Path, Path]:
    """A new key in NAME.pem (0600) and its public half in NAME.public.pem. Raises BadInput when there is one of this name."""
    private, public = folder / f"{name}{PRIVATE}", folder / f"{name}{PUBLIC}"
    if taken := next((path for path in (private, public) if path.exists()), None):
        raise BadInput(f"{taken} exists already; no key is ever overwritten", field="key", code="key-exists")
    folder.mkdir(parents=True, exist_ok=True)
    key, chosen = ec.generate_private_key(_CURVE), passphrase(name, True)
    write_whole(private, pkcs8.plain(key) if chosen is None else pkcs8.encrypted(key, chosen, random), 0o600)
    write_whole(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign_file(path: Path, key: Path, passphrase: Passphrase = unencrypted) -> bytes:
    """The signature bundle (JSON) over the file `path`. Raises BadInput for a key that does not open or is none of P-256, which never repeats its
    bytes, and where model-signing is not installed."""
    config = _library("signing").Config()
    pem = _read(key, "key")
    secret = passphrase(key.stem, False) if pkcs8.is_encrypted(pem) else None
    _check_curve(pkcs8.load(pem, secret, str(key), ec.EllipticCurvePrivateKey), key)
    # the library hands the password on to cryptography, which wants bytes
    config.use_elliptic_key_signer(private_key=key, password=None if secret is None else secret.encode())
    with tempfile.TemporaryDirectory() as folder:
        signature = Path(folder, "model.sig")
        config.sign(path, signature)
        return signature.read_bytes()


def verify_file(path: Path, signature: Path, public_key: Path) -> None:
    """Raises BadInput unless `signature` is one by this key over these bytes."""
    config = _library("verifying").Config()
    _check_curve(_public(public_key), public_key)
    _read(signature, "signature")
    try:
        config.use_elliptic_key_verifier(public_key=public_key).verify(path, signature)
    except InvalidSignature as error:
        raise BadInput(f"{signature} is not signed by {public_key}", field="signature", code="bad-signature") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        # of a foreign or torn file the library raises whatever its parts do
        raise BadInput(f"{signature} does not sign {path.name}: {error}", field="signature", code="bad-signature") from error


def _library(part: str):
    try:
        from model_signing import signing, verifying  # half a second, for these commands alone
    except ImportError as error:
        raise BadInput("OpenSSF signatures need the extra `openssf` (pip install 'edgefleet[openssf]')", field="openssf") from error
    return {"signing": signing, "verifying": verifying}[part]


def _check_curve(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey, path: Path) -> None:
    if key.curve.name != _CURVE.name:
        raise BadInput(f"{path} is a key of {key.curve.name}", field="key", limit=_CURVE.name)


def _public(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(_read(path, "public-key"))
    except ValueError as error:
        raise BadInput(f"{path} is no public key (PEM)", field="public-key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadInput(f"{path} is no EC key", field="public-key", limit=_CURVE.name)
    return key


def _read(path: Path, field: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", field=field) from error
    if len(data) > limits.MAX_METADATA_BYTES:
        raise BadInput(f"{path} has more than {limits.MAX_METADATA_BYTES} bytes", field=field, limit=limits.MAX_METADATA_BYTES)
    return data
