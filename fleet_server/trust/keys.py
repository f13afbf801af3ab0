"""Ed25519 key files: PKCS8 PEM, readable by their owner alone.

The offline folder (root, targets, releases) is named at init and not needed by a running server; the online keys lie in the server's home.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from fleet_server.errors import BadRequest, Conflict
from fleet_server.storage import make_folder, write_atomic

ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
OFFLINE = (*ROOT_KEYS, "targets", "releases")
ONLINE = ("snapshot", "timestamp", "orders")


def create(folder: Path, names: tuple[str, ...]) -> None:
    """Make one key file for each of `names`. Raises Conflict, and writes nothing, when one of them exists."""
    make_folder(folder, 0o700)
    taken = [name for name in names if (folder / f"{name}.pem").exists()]
    if taken:
        raise Conflict(f"{folder} already holds the keys {', '.join(taken)}; choose another folder", field="keys")
    for name in names:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_atomic(folder / f"{name}.pem", pem, 0o600)


def load(path: Path) -> Ed25519PrivateKey:
    """Raises BadRequest naming the file, never its contents."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadRequest(f"cannot read the key file {path}: {type(error).__name__}", field=path.stem) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadRequest(f"the key file {path} does not hold an Ed25519 key", field=path.stem)
    return key


def tuf_signer(path: Path) -> CryptoSigner:
    """A python-tuf signer of the key in `path`. Raises BadRequest."""
    key = load(path)
    return CryptoSigner(key, SSlibKey.from_crypto(key.public_key()))
