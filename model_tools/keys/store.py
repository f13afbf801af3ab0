"""A folder of keys. `NAME.pub` says what a key is and where it can be used; `NAME.pem` holds it, unless a PKCS#11 token does.

The .pub file may be copied to anybody: who gathers the ceremony needs it of every key, and the private half of none.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from fleet_contract import limits, names
from model_tools.errors import BadInput
from model_tools.keys import hsm, pkcs8
from model_tools.keys.passphrases import Passphrase
from model_tools.storage import write_whole

NAME_FIELD = "x-edgefleet-name"
"""Of a key in signed metadata: what its holder calls it."""
_FILE = "file:"


class _Pub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a .pub file holds: a TUF key, and the URI of its private half (`file:NAME.pem`, beside it, or `hsm:...`)."""

    keyid: str
    key: dict[str, object]
    uri: str


@dataclass(frozen=True)
class StoredKey:
    """`key` carries its name; `uri` says who can sign with it."""

    name: str
    key: Key
    uri: str
    folder: Path

    @property
    def at_hand(self) -> bool:
        """Whether a signature can be made here. A token may still be unplugged."""
        return not self.uri.startswith(_FILE) or self._pem.exists()

    @property
    def _pem(self) -> Path:
        return self.folder / self.uri.removeprefix(_FILE)

    def signer(self, passphrase: Passphrase) -> Signer:
        """Raises BadInput: the private half is not here, does not open, or is another key's."""
        if not self.uri.startswith(_FILE):
            return hsm.signer(self.uri, self.key, lambda: passphrase(self.name, False) or "")
        pem = _read(self._pem, self.name)
        private = pkcs8.load(pem, passphrase(self.name, False) if pkcs8.is_encrypted(pem) else None, str(self._pem))
        if SSlibKey.from_crypto(private.public_key()).keyid != self.key.keyid:
            raise BadInput(f"{self._pem} is not the private half of {self.name}.pub", field="key")
        return CryptoSigner(private, self.key)


class KeyStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: str) -> bool:
        return (self.folder / f"{name}.pub").exists()

    def create(self, name: str, passphrase: Passphrase, random: Callable[[int], bytes] = os.urandom) -> StoredKey:
        """Make a new Ed25519 key file. Raises BadInput when there is one of this name."""
        pem = self._free(name)
        private = Ed25519PrivateKey.generate()
        chosen = passphrase(name, True)
        write_whole(pem, pkcs8.plain(private) if chosen is None else pkcs8.encrypted(private, chosen, random), 0o600)
        return self._publish(name, SSlibKey.from_crypto(private.public_key()), f"{_FILE}{pem.name}")

    def adopt(self, name: str, uri: str, passphrase: Passphrase) -> StoredKey:
        """Describe the EC P-256 key that `uri` names in a PKCS#11 token; it is made there if it is not yet. Raises BadInput."""
        self._free(name)
        uri, key = hsm.take(uri, lambda: passphrase(name, False) or "")
        return self._publish(name, key, uri)

    def load(self, name: str) -> StoredKey:
        """Raises BadInput."""
        return load(self.folder / f"{name}.pub")

    def everything(self) -> dict[str, StoredKey]:
        """By key id."""
        found = [load(path) for path in sorted(self.folder.glob("*.pub"))]
        return {one.key.keyid: one for one in found}

    def _free(self, name: str) -> Path:
        names.name(name, "key")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        taken = [path for path in (self.folder / f"{name}.pem", self.folder / f"{name}.pub") if path.exists()]
        if taken:
            raise BadInput(f"{taken[0]} exists already; no key is ever overwritten", field="key", code="key-exists")
        return self.folder / f"{name}.pem"

    def _publish(self, name: str, key: SSlibKey, uri: str) -> StoredKey:
        key.unrecognized_fields[NAME_FIELD] = name
        pub = _Pub(key.keyid, key.to_dict(), uri)
        write_whole(self.folder / f"{name}.pub", msgspec.json.format(msgspec.json.encode(pub), indent=2) + b"\n")
        return StoredKey(name, key, uri, self.folder)


def load(path: Path) -> StoredKey:
    """The key of a .pub file, or of the .pem file beside one. Raises BadInput."""
    pub = path.with_suffix(".pub")
    try:
        told = msgspec.json.decode(_read(pub, pub.stem), type=_Pub)
        key = Key.from_dict(told.keyid, dict(told.key))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{pub} does not describe a key: {error}", field="key") from error
    if named(key) != pub.stem:
        raise BadInput(f"{pub} describes the key {named(key)!r}: do not rename key files", field="key")
    return StoredKey(pub.stem, key, told.uri, pub.parent)


def named(key: Key) -> str:
    """What the key's holder calls it."""
    return str(key.unrecognized_fields.get(NAME_FIELD, "unnamed"))


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path} of the key {name}: {error.strerror}", field="key") from error
