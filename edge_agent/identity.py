"""Who this device is: its key and certificate, the fleet's CA, the pinned TUF root. Complete or absent, never half."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import Fatal, Reject
from edge_agent.storage import atomic
from fleet_contract.mqtt import Tls

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

KEY, CERTIFICATE, CA, ROOT, DEVICE = "key.pem", "cert.pem", "ca.pem", "root.json", "device.json"


class Device(msgspec.Struct, frozen=True):
    """What the server said at enrolment. `root_sha256` is of the pinned 1.root.json."""

    device_id: str
    fleet: str
    profile: str
    task: str
    broker_url: str
    server_url: str
    root_sha256: str


@dataclass(frozen=True)
class Identity:
    device: Device
    folder: Path
    root: bytes

    @property
    def tls(self) -> Tls:
        return Tls(ca=self.folder / CA, certificate=self.folder / CERTIFICATE, key=self.folder / KEY)


def load(folder: Path) -> Identity | None:
    """None before enrolment. Raises Fatal when the folder is there but damaged."""
    if not folder.exists():
        return None
    try:
        device = msgspec.json.decode((folder / DEVICE).read_bytes(), type=Device)
        root = (folder / ROOT).read_bytes()
    except (OSError, ValueError, RecursionError) as error:
        raise Fatal(f"the identity in {folder} is damaged ({error}); remove the folder and enrol again", code="identity") from error
    return Identity(device, folder, root)


def save(folder: Path, device: Device, *, key_pem: bytes, certificate_pem: bytes, ca_pem: bytes, root: bytes) -> None:
    """Write the whole identity at once. Raises OSError."""
    files = {KEY: key_pem, CERTIFICATE: certificate_pem, CA: ca_pem, ROOT: root, DEVICE: msgspec.json.encode(device)}
    atomic.write_folder(folder, files)


def check_certificate(certificate_pem: bytes, ca_pem: bytes, key_pem: bytes, device_id: str) -> "Certificate":
    """The certificate, if this CA issued it to this device for this key. Raises Reject."""
    from cryptography import x509  # 9 MB that a running agent does not need for its certificate: OpenSSL reads that
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        ca = x509.load_pem_x509_certificate(ca_pem)
        key = serialization.load_pem_private_key(key_pem, None)
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Reject(f"the certificate is not from this fleet's CA: {error}", code="bad-certificate") from error
    if certificate.public_key() != key.public_key():
        raise Reject("the certificate is for another key", code="bad-certificate")
    if [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] != [device_id]:
        raise Reject(f"the certificate is not for device {device_id!r}", code="bad-certificate")
    return certificate


def verify(identity: Identity, now: datetime) -> datetime:
    """When the certificate ends. Raises Reject when the identity does not hold together or has ended."""
    try:
        pems = [(identity.folder / name).read_bytes() for name in (CERTIFICATE, CA, KEY)]
    except OSError as error:
        raise Reject(f"the identity is not complete: {error}", code="identity") from error
    certificate = check_certificate(*pems, identity.device.device_id)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise Reject(f"the certificate is valid until {certificate.not_valid_after_utc.isoformat()}", code="certificate-expired")
    return certificate.not_valid_after_utc
