"""The identities of a virtual fleet, kept in a folder from one run to the next: ID.pem (key and certificate), ca.pem and fleet.json."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_contract import names
from hil.errors import RigError
from hil.storage import write_atomic

_FILE = "fleet.json"


class Belonging(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all devices of the folder have in common. `orders_keys` are raw Ed25519 keys in hex."""

    server_url: str
    broker_url: str
    profile: str
    task: str
    orders_keys: list[str]


class Identities:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def missing(self, devices: Iterable[str]) -> list[str]:
        return [device for device in devices if not (self.folder / f"{device}.pem").exists()]

    def prepare(self, ca_pem: bytes) -> None:
        """Make the folder, or make sure that it is of this fleet. Raises RigError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.ca.exists() and self.ca.read_bytes() != ca_pem:
            raise RigError(f"{self.folder} holds the identities of another fleet: name another folder, or remove it")
        write_atomic(self.ca, ca_pem)

    def keep(self, device: str, key_pem: bytes, certificate_pem: str) -> None:
        write_atomic(self.folder / f"{device}.pem", key_pem + certificate_pem.encode(), 0o600)

    def describe(self, belonging: Belonging) -> None:
        write_atomic(self.folder / _FILE, msgspec.json.format(msgspec.json.encode(belonging), indent=2))

    def belonging(self) -> Belonging:
        """Raises RigError."""
        try:
            return msgspec.json.decode((self.folder / _FILE).read_bytes(), type=Belonging)
        except (OSError, ValueError) as error:
            raise RigError(f"{self.folder / _FILE}: {error}") from error


def device_names(count: int, prefix: str = "virtual") -> list[str]:
    """The same ones for every run."""
    return [names.device_id(f"{prefix}-{number:05}") for number in range(count)]


def new_key(device: str) -> tuple[bytes, str]:
    """A private key (PEM) and a request for its certificate (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return key_pem, request.public_bytes(Encoding.PEM).decode()
