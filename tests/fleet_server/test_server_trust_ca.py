"""The device CA: whom it certifies, and what it refuses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet_server.errors import BadRequest, NotFound
from fleet_server.trust import device_ca
from fleet_server.trust.device_ca import DeviceCa
from tests.fakes.device_keys import csr

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> DeviceCa:
    return device_ca.create(tmp_path_factory.mktemp("ca"), "demo", lambda: NOW)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def names(certificate: x509.Certificate) -> list[str]:
    return [str(name.value) for name in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_device_certificate_names_the_device_twice_and_is_for_clients(ca: DeviceCa) -> None:
    certificate = x509.load_pem_x509_certificate(ca.issue(csr("cam-1"), "cam-1").encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.ca_pem().encode()))
    assert certificate.subject.rfc4514_string() == "CN=cam-1"
    assert names(certificate) == ["spiffe://demo/device/cam-1"]
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("text", "device", "field"),
    [
        pytest.param(csr("cam-2"), "cam-1", "csr_pem", id="another-common-name"),
        pytest.param(csr("cam-1", "fleet-server"), "cam-1", "csr_pem", id="two-common-names"),
        pytest.param(csr(), "cam-1", "csr_pem", id="no-common-name"),
        pytest.param(csr("fleet-server"), "fleet-server", "device_id", id="the-server's-name"),
        pytest.param(csr("fleet-broker"), "fleet-broker", "device_id", id="the-broker's-name"),
        pytest.param(csr("Cam 1"), "Cam 1", "device_id", id="outside-the-charset"),
        pytest.param(csr("#"), "#", "device_id", id="a-wildcard"),
        pytest.param(csr("cam-1", key=ec.generate_private_key(ec.SECP384R1())), "cam-1", "csr_pem", id="another-curve"),
        pytest.param(csr("cam-1", key=rsa.generate_private_key(65537, 2048)), "cam-1", "csr_pem", id="an-rsa-key"),
        pytest.param("hello", "cam-1", "csr_pem", id="not-pem"),
        pytest.param("", "cam-1", "csr_pem", id="empty"),
        pytest.param("x" * 10_000, "cam-1", "csr_pem", id="too-long"),
        pytest.param("\ud800", "cam-1", "csr_pem", id="not-even-unicode"),
    ],
)
def test_bad_request_is_refused(ca: DeviceCa, text: str, device: str, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ca.issue(text, device)
    assert caught.value.field == field


def test_csr_signed_by_another_key_is_refused(ca: DeviceCa) -> None:
    genuine = x509.load_pem_x509_csr(csr("cam-1").encode())
    der = bytearray(genuine.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(BadRequest):
        ca.issue(forged, "cam-1")


def test_own_certificates_are_made_once_and_renewed_in_time(tmp_path: Path) -> None:
    now = NOW
    ca = device_ca.create(tmp_path / "ca", "demo", lambda: now)
    ca.renew_own(["localhost", "127.0.0.1", "fleet.example"])
    files = {path.name: path.read_bytes() for path in ca.folder.iterdir()}
    server = x509.load_pem_x509_certificate(files["server.pem"])
    client = x509.load_pem_x509_certificate(files["fleet-server.pem"])
    assert names(server) == ["localhost", "127.0.0.1", "fleet.example"]
    assert (usages(server), usages(client)) == ([ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH])
    ca.renew_own(["localhost", "127.0.0.1", "fleet.example"])
    assert files == {path.name: path.read_bytes() for path in ca.folder.iterdir()}
    now += timedelta(days=380)
    ca.renew_own(["localhost", "127.0.0.1", "fleet.example"])
    assert files["server.pem"] != (ca.folder / "server.pem").read_bytes()


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    ca = device_ca.create(tmp_path / "ca", "demo", lambda: NOW)
    ca.renew_own(["localhost"])
    assert {path.stat().st_mode & 0o777 for path in ca.folder.glob("*.key")} == {0o600}


def test_missing_ca_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="fleet-server init"):
        DeviceCa(tmp_path, "demo", lambda: NOW)
