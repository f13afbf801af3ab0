"""The part of the fleet server's API that publishing uses, over real HTTPS with a CA of its own."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_contract.bundle import Bundle


@dataclass
class ReleaseServer:
    """`refuse` maps a path to (status, body) instead of the usual answer. `seen` holds (method, path, authorization, body)."""

    url: str
    ca: Path
    releases: bytes
    refuse: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    bundles: list[bytes] = field(default_factory=list)
    targets: bytes = b""

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        if path in self.refuse:
            return self.refuse[path]
        answers = {
            ("GET", "/v1/tuf/releases.json"): (200, self.releases),
            ("GET", "/v1/tuf/targets.json"): (200, self.targets),
            ("GET", "/v1/bundles"): (200, self._page()),
            **{("GET", f"/v1/bundles/{sha256(data).hexdigest()}/content"): (200, data) for data in self.bundles},
            ("POST", "/v1/bundles"): (201, b'{"sha256": "stored"}'),
            ("POST", "/v1/rollouts"): (201, b'{"id": 1, "state": "canary"}'),
        }
        return answers.get((method, path), (404, b"no such thing"))

    def _page(self) -> bytes:
        rows = [{"sha256": sha256(data).hexdigest(), "task": Bundle(data).manifest.task, "version": "?"} for data in self.bundles]
        return json.dumps({"items": rows, "next": None}).encode()


@contextmanager
def serve_releases(folder: Path, releases: bytes) -> Iterator[ReleaseServer]:
    """Serves on a free port of this machine until the block ends; `folder` takes the CA and the key."""
    ca, chain = _certify(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.fake = ReleaseServer(f"https://127.0.0.1:{server.server_address[1]}", ca, releases)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        fake: ReleaseServer = self.server.fake
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        fake.seen.append((self.command, path, self.headers.get("Authorization"), body))
        status, answer = fake.answer(self.command, path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Silent."""


def error(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "field": None, "limit": None}}).encode()


def _certify(folder: Path) -> tuple[Path, Path]:
    """A CA's certificate, and a file with a server certificate for 127.0.0.1 and its key."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test fleet")])
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    usage |= {"encipher_only": False, "decipher_only": False, "digital_signature": True, "crl_sign": True, "key_cert_sign": True}
    root = (
        _named(issuer, issuer, authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(x509.KeyUsage(**usage), True)
        .sign(authority, hashes.SHA256())
    )
    leaf = (
        _named(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), issuer, key)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(authority, hashes.SHA256())
    )
    ca, chain = folder / "ca.pem", folder / "server.pem"
    ca.write_bytes(root.public_bytes(Encoding.PEM))
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return ca, chain


def _named(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
