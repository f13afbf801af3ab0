"""A device's own key and CSR, as an agent would make them."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_contract.mqtt import Tls


def csr(*common_names: str, key=None) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    request = x509.CertificateSigningRequestBuilder(subject).sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def identity(ca, device: str, folder: Path, trusted_ca: str | None = None) -> Tls:
    """Have `ca` certify a new key of `device`; the files lie in `folder`. `trusted_ca` is the CA the device believes in, by default `ca`'s own."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    tls = Tls(folder / "ca.pem", folder / f"{device}.pem", folder / f"{device}.key")
    tls.ca.write_text(trusted_ca or ca.ca_pem())
    tls.certificate.write_text(ca.issue(csr(device, key=key), device))
    tls.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tls
