"""The keys that a running server holds: Ed25519, PKCS8 PEM, readable by their owner alone, in its home's `keys`.

`ROLE.pem` is in use. `ROLE.next.pem` waits until installed metadata names it, and then takes the other's place in one rename: which of the two
signs is never remembered, only read from what devices are told to trust.
"""

from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from securesystemslib.signer import SSlibKey

from fleet_contract import online_keys
from fleet_server.errors import BadRequest, Conflict
from fleet_server.storage import make_folder, sync_folder, write_atomic

ROLES = ("snapshot", "timestamp", "orders")


class OnlineKeys:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def online_json(self) -> Path:
        return self._folder / online_keys.FILE

    def create(self, fleet: str) -> None:
        """Make one key for each role, and online.json. Raises Conflict, and writes nothing, when there are keys."""
        make_folder(self._folder, 0o700)
        taken = [role for role in ROLES if self._path(role).exists()]
        if taken:
            raise Conflict(f"{self._folder} already holds the keys {', '.join(taken)}", field="keys")
        for role in ROLES:
            self._make(self._path(role))
        self._tell(fleet)

    def begin_rotation(self, role: str, fleet: str) -> str:
        """Make the role's next key and name it in online.json; returns its TUF key id. Raises BadRequest, or Conflict while one waits already."""
        if role not in ROLES:
            raise BadRequest(f"role {role!r} has no online key; {', '.join(ROLES)} have", field="role")
        if self._next(role).exists():
            self._tell(fleet)
            raise Conflict(f"the next {role} key waits already: have it signed for, and install that", field="role")
        self._make(self._next(role))
        self._tell(fleet)
        return _keyid(load(self._next(role)))

    def held(self, role: str) -> frozenset[str]:
        """TUF key ids of the key in use and of the next. Raises BadRequest."""
        return frozenset(_keyid(load(path)) for path in (self._path(role), self._next(role)) if path.exists())

    def announced(self) -> dict[str, str]:
        """By role, the TUF key id that online.json shows. Raises BadRequest."""
        return {role: _keyid(load(path)) for role, path in self._newest().items()}

    def key(self, role: str, trusted: Collection[str]) -> Ed25519PrivateKey:
        """The one that is among the TUF key ids `trusted`. Raises BadRequest when none is, or a key file cannot be used."""
        for path in (self._next(role), self._path(role)):
            if path.exists():
                key = load(path)
                if _keyid(key) in trusted:
                    return key
        raise BadRequest(f"{self._folder} holds no {role} key that the installed metadata names", field=role, code="no-key")

    def settle(self, role: str, trusted: Collection[str]) -> bool:
        """Once the next key is trusted and the old one is not, the old one is gone for good; whether it now is."""
        if not self._next(role).exists() or _keyid(load(self._next(role))) not in trusted:
            return False
        self._next(role).replace(self._path(role))
        sync_folder(self._folder)
        return True

    def _tell(self, fleet: str) -> None:
        public = {role: load(path).public_key().public_bytes_raw().hex() for role, path in self._newest().items()}
        write_atomic(self.online_json, online_keys.encode(online_keys.OnlineKeys(fleet=fleet, **public)))

    def _newest(self) -> dict[str, Path]:
        return {role: self._next(role) if self._next(role).exists() else self._path(role) for role in ROLES}

    def _make(self, path: Path) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_atomic(path, pem, 0o600)

    def _path(self, role: str) -> Path:
        return self._folder / f"{role}.pem"

    def _next(self, role: str) -> Path:
        return self._folder / f"{role}.next.pem"


def load(path: Path) -> Ed25519PrivateKey:
    """Raises BadRequest naming the file, never its contents."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadRequest(f"cannot read the key file {path}: {type(error).__name__}", field=path.stem) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadRequest(f"the key file {path} does not hold an Ed25519 key", field=path.stem)
    return key


def _keyid(key: Ed25519PrivateKey) -> str:
    return SSlibKey.from_crypto(key.public_key()).keyid
