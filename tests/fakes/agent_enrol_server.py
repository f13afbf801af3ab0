"""A fleet server's enrolment over real HTTPS: its CA, its one-time tokens, and every way in which it may misbehave."""

import base64
import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_contract.enrolment import EnrolAnswer, EnrolmentToken, EnrolRequest

DEVICE = "dev-1"
ROOT = b'{"signed": "the first root"}'


class Authority:
    """A CA that signs what it is told to."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test fleet")])
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        usage |= {"encipher_only": False, "decipher_only": False, "digital_signature": True, "crl_sign": True, "key_cert_sign": True}
        builder = self._builder(self.name, self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        self.certificate = builder.add_extension(x509.KeyUsage(**usage), True).sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).hexdigest()

    def issue(self, common_name: str, key: Any, *extensions: x509.ExtensionType) -> bytes:
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), key)
        for extension in (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), *extensions):
            builder = builder.add_extension(extension, False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))


@dataclass
class EnrolServer:
    """`change` overwrites fields of the answer; `refuse` replaces it by (status, body). `requests` are those that came."""

    url: str
    authority: Authority
    change: dict[str, str] = field(default_factory=dict)
    refuse: tuple[int, bytes] | None = None
    requests: list[EnrolRequest] = field(default_factory=list)
    ca_pem: bytes | None = None

    def token(self, **changes: str) -> EnrolmentToken:
        fields = {
            "id": "abcd1234",
            "secret": "s" * 32,
            "ca_sha256": self.authority.sha256,
            "root_sha256": hashlib.sha256(ROOT).hexdigest(),
        }
        return EnrolmentToken(**{**fields, **changes})

    def enrol(self, body: bytes) -> tuple[int, bytes]:
        request = msgspec.json.decode(body, type=EnrolRequest)
        self.requests.append(request)
        if self.refuse:
            return self.refuse
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        fields = {
            "device_id": DEVICE,
            "fleet": "demo",
            "profile": "generic-x86-64",
            "task": "toy",
            "certificate_pem": self.authority.issue(DEVICE, csr.public_key()).decode(),
            "ca_pem": self.authority.pem.decode(),
            "root_base64": base64.b64encode(ROOT).decode(),
            "broker_url": "mqtts://localhost:8883",
        }
        return 200, msgspec.json.encode(EnrolAnswer(**{**fields, **self.change}))


@contextmanager
def serve_enrolment(folder: Path) -> Iterator[EnrolServer]:
    """On a free port of this machine until the block ends."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    chain = folder / "enrol-server.pem"
    certificate = authority.issue("server", key.public_key(), x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]))
    chain.write_bytes(certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.fake = EnrolServer(f"https://127.0.0.1:{server.server_address[1]}", authority)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.fake  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        fake: EnrolServer = self.server.fake  # type: ignore[attr-defined]
        self._answer(200, fake.ca_pem or fake.authority.pem)

    def do_POST(self) -> None:
        fake: EnrolServer = self.server.fake  # type: ignore[attr-defined]
        self._answer(*fake.enrol(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the device hangs up on an endless answer
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""
