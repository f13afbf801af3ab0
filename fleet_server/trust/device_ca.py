"""The fleet's own CA (X.509, EC P-256): it certifies devices, the server's TLS listeners and the server's MQTT identity, and nothing else."""

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_contract import limits, names
from fleet_contract.errors import BadName
from fleet_server.errors import BadRequest, NotFound
from fleet_server.storage import make_folder, write_atomic

SERVER_IDENTITY = "fleet-server"
"""CN of the server's own MQTT client certificate; the broker's ACL gives it everything."""
RESERVED = frozenset({SERVER_IDENTITY, "fleet-broker"})

WORKER_IDENTITIES = tuple(f"ingest_{number}" for number in range(1, limits.MAX_INGEST_WORKERS_COUNT + 1))
"""CNs of the ingest workers. No device id has an underscore."""

_CA_DAYS = 3_650
_SERVER_DAYS = 397
_DEVICE_DAYS = 730
_RENEW_DAYS = 30
_BACKDATE = timedelta(minutes=5)
"""A device whose clock lags a little must still find its new certificate valid."""

Clock = Callable[[], datetime]
_KEY_USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


class DeviceCa:
    """Implements ports.DeviceAuthority over a folder with ca.pem and ca.key."""

    def __init__(self, folder: Path, fleet: str, clock: Clock) -> None:
        """Raises NotFound when the folder holds no CA."""
        self.folder, self._fleet, self._clock = folder, fleet, clock
        self._listed_at = datetime.fromtimestamp(0, UTC)
        try:
            self._pem = (folder / "ca.pem").read_bytes()
            self._certificate = x509.load_pem_x509_certificate(self._pem)
            self._key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise NotFound(f"{folder} holds no usable CA: run `fleet-server init` first ({type(error).__name__})", field="ca") from error

    def ca_pem(self) -> str:
        return self._pem.decode()

    def ca_sha256(self) -> str:
        return hashlib.sha256(self._certificate.public_bytes(Encoding.DER)).hexdigest()

    def issue(self, csr_pem: str, device_id: str) -> str:
        csr = _check_csr(csr_pem, device_id)
        uri = x509.UniformResourceIdentifier(names.spiffe_id(self._fleet, device_id))
        return self._sign(csr.public_key(), device_id, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, _DEVICE_DAYS).decode()

    def serial(self, certificate_pem: str) -> int:
        return x509.load_pem_x509_certificate(certificate_pem.encode()).serial_number

    def revocation_list(self, serials: Iterable[int]) -> bytes:
        """A CRL (PEM) good for as long as the CA itself: it is made anew when something changes, and a broker with an outdated one lets nobody in.

        Each is dated at least a second after the one before: of two with one date, OpenSSL goes on with the older.
        """
        self._listed_at = max(self._clock().replace(microsecond=0) - _BACKDATE, self._listed_at + timedelta(seconds=1))
        builder = (
            x509.CertificateRevocationListBuilder(issuer_name=self._certificate.subject)
            .last_update(self._listed_at)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial in sorted(serials):
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self._listed_at).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def renew_own(self, hosts: Sequence[str]) -> None:
        """Make server.pem (TLS listeners; SANs are `hosts`) and fleet-server.pem (MQTT client) unless they are good for another month."""
        sans = [_general_name(host) for host in dict.fromkeys(hosts)]
        self._renew("server", "fleet-broker", sans, ExtendedKeyUsageOID.SERVER_AUTH)
        uri = x509.UniformResourceIdentifier(f"spiffe://{self._fleet}/server")
        self._renew(SERVER_IDENTITY, SERVER_IDENTITY, [uri], ExtendedKeyUsageOID.CLIENT_AUTH)

    def renew_worker(self, number: int) -> str:
        """Make the certificate and key of one ingest worker, counted from 1, unless they are good for another month; returns their stem, its CN."""
        name = WORKER_IDENTITIES[number - 1]
        uri = x509.UniformResourceIdentifier(f"spiffe://{self._fleet}/ingest/{number}")
        self._renew(name, name, [uri], ExtendedKeyUsageOID.CLIENT_AUTH)
        return name

    def certify_broker(self, folder: Path, hosts: Sequence[str]) -> None:
        """Write ca.pem, broker.pem (SANs are `hosts`) and broker.key into `folder`, for a broker that runs somewhere else."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = [_general_name(host) for host in dict.fromkeys(hosts)]
        write_atomic(folder / "broker.key", _key_pem(key), 0o600)
        write_atomic(
            folder / "broker.pem", self._sign(key.public_key(), "fleet-broker", sans, ExtendedKeyUsageOID.SERVER_AUTH, _SERVER_DAYS)
        )
        write_atomic(folder / "ca.pem", self._pem)

    def _renew(self, stem: str, name: str, sans: list[x509.GeneralName], usage: x509.ObjectIdentifier) -> None:
        if self._still_good(self.folder / f"{stem}.pem", sans):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomic(self.folder / f"{stem}.key", _key_pem(key), 0o600)
        write_atomic(self.folder / f"{stem}.pem", self._sign(key.public_key(), name, sans, usage, _SERVER_DAYS))

    def _still_good(self, path: Path, sans: list[x509.GeneralName]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            key = load_pem_private_key(path.with_suffix(".key").read_bytes(), password=None)
        except (OSError, ValueError):
            return False
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        lasting = certificate.not_valid_after_utc > self._clock() + timedelta(days=_RENEW_DAYS)
        return lasting and list(named) == sans and key.public_key() == certificate.public_key()

    def _sign(self, public_key, name: str, sans: list[x509.GeneralName], usage: x509.ObjectIdentifier, days: int) -> bytes:
        now = self._clock()
        builder = (
            x509.CertificateBuilder(issuer_name=self._certificate.subject, subject_name=_name(name), public_key=public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_KEY_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def create(folder: Path, fleet: str, clock: Clock) -> DeviceCa:
    """Make a new CA for `fleet` in `folder`. Raises BadName."""
    names.device_id(fleet)
    make_folder(folder, 0o700)
    key, now = ec.generate_private_key(ec.SECP256R1()), clock()
    name = _name(f"{fleet} fleet CA")
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_atomic(folder / "ca.key", _key_pem(key), 0o600)
    write_atomic(folder / "ca.pem", certificate.public_bytes(Encoding.PEM))
    return DeviceCa(folder, fleet, clock)


def _check_csr(csr_pem: str, device_id: str) -> x509.CertificateSigningRequest:
    """Proof of possession, one CN that is the device's, a key that TLS can use."""
    if len(csr_pem) > limits.MAX_CSR_BYTES:
        raise BadRequest(f"CSR of {len(csr_pem)} characters", field="csr_pem", limit=limits.MAX_CSR_BYTES)
    try:
        names.device_id(device_id)
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        proven = csr.is_signature_valid
        common_names = [attribute.value for attribute in csr.subject]
    except BadName as error:
        raise BadRequest(str(error), field="device_id", limit=error.limit) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadRequest(f"the CSR is malformed: {error}", field="csr_pem") from error
    if device_id in RESERVED:
        raise BadRequest(f"{device_id!r} is reserved for the server", field="device_id")
    if common_names != [device_id]:
        raise BadRequest(f"the CSR's subject must be CN={device_id} alone", field="csr_pem")
    key = csr.public_key()
    if not proven or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("the CSR must be signed by its own EC P-256 key", field="csr_pem")
    return csr


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
