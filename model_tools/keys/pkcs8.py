"""Private keys as PKCS8 PEM (RFC 5958), encrypted with a key that scrypt makes of the passphrase (PBES2: RFC 8018, RFC 7914).

The cryptography package reads such files but writes encrypted ones with 2,048 rounds of PBKDF2, which a graphics card tries by the million.
"""

import base64
from collections.abc import Callable
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from fleet_contract import limits
from model_tools.errors import BadInput

_COST, _BLOCK_SIZE, _PARALLEL = 2**14, 8, 5
"""16 MiB and a fifth of a second a try; the most memory that openssl's own reader grants."""
_SALT_BYTES, _AES_BLOCK_BYTES, _AES_KEY_BYTES = 16, 16, 32
_PBES2, _SCRYPT, _AES256_CBC = (bytes.fromhex(oid) for oid in ("2a864886f70d01050d", "2b06010401da47040b", "60864801650304012a"))
_LABEL = "ENCRYPTED PRIVATE KEY"
_KINDS = {Ed25519PrivateKey: "Ed25519", EllipticCurvePrivateKey: "EC"}
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30


Key = TypeVar("Key", Ed25519PrivateKey, EllipticCurvePrivateKey)


def plain(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted(key: Ed25519PrivateKey | EllipticCurvePrivateKey, passphrase: str, random: Callable[[int], bytes]) -> bytes:
    """`random(n)` gives n bytes for salt and IV."""
    salt, start = random(_SALT_BYTES), random(_AES_BLOCK_BYTES)
    secret = Scrypt(salt, _AES_KEY_BYTES, _COST, _BLOCK_SIZE, _PARALLEL).derive(passphrase.encode())
    padder, cipher = padding.PKCS7(8 * _AES_BLOCK_BYTES).padder(), Cipher(AES256(secret), CBC(start)).encryptor()
    padded = padder.update(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())) + padder.finalize()
    parameters = _der(_SEQUENCE, _der(_OCTETS, salt), *(_integer(number) for number in (_COST, _BLOCK_SIZE, _PARALLEL)))
    derivation = _der(_SEQUENCE, _der(_OID, _SCRYPT), parameters)
    scheme = _der(_SEQUENCE, derivation, _der(_SEQUENCE, _der(_OID, _AES256_CBC), _der(_OCTETS, start)))
    sealed = _der(_OCTETS, cipher.update(padded) + cipher.finalize())
    return _pem(_der(_SEQUENCE, _der(_SEQUENCE, _der(_OID, _PBES2), scheme), sealed))


def is_encrypted(pem: bytes) -> bool:
    return _LABEL.encode() in pem


def load(pem: bytes, passphrase: str | None, name: str, kind: type[Key] = Ed25519PrivateKey) -> Key:
    """The key in the file `name`. Raises BadInput, which never repeats the bytes or the passphrase."""
    if len(pem) > limits.MAX_KEY_FILE_BYTES:
        raise BadInput(f"the key file {name} has {len(pem)} bytes", field="key", limit=limits.MAX_KEY_FILE_BYTES)
    try:
        key = load_pem_private_key(pem, passphrase.encode() if passphrase is not None and is_encrypted(pem) else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "is no PEM private key" if passphrase is None else "does not open with this passphrase"
        raise BadInput(f"{name} {why}", field="key" if passphrase is None else "passphrase") from None
    if not isinstance(key, kind):
        raise BadInput(f"{name} holds no {_KINDS[kind]} key", field="key", limit=_KINDS[kind].lower())
    return key


def _pem(der: bytes) -> bytes:
    return f"-----BEGIN {_LABEL}-----\n{base64.encodebytes(der).decode()}-----END {_LABEL}-----\n".encode()


def _integer(number: int) -> bytes:
    return _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    length = (
        bytes([size]) if size < 0x80 else bytes([0x80 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return bytes([tag]) + length + body
