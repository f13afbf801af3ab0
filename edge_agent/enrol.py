"""Turn a one-time token into this device's identity. The token pins the CA and the TUF root, so nothing else needs trust."""

import base64
import hashlib
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import firmware_profiles.catalog as profiles
from edge_agent import identity
from edge_agent.errors import Fatal, Reject, Retry
from edge_agent.storage import atomic
from fleet_contract import limits, mqtt, names, tls
from fleet_contract.enrolment import EnrolAnswer, EnrolmentToken, EnrolRequest
from fleet_contract.errors import ContractError

_TIMEOUT_S = 15.0


class _Problem(msgspec.Struct):
    code: str = "error"
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Problem


@dataclass(frozen=True)
class Server:
    """`https://host[:port]` of a fleet server."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"


def parse_server(url: str) -> Server:
    """Raises Fatal."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError as error:
        raise Fatal(f"server URL {url!r}: {error}", code="bad-url") from error
    if parts.scheme != "https" or not host or parts.path not in ("", "/"):
        raise Fatal(f"server URL {url!r} must be https://host[:port]", code="bad-url")
    return Server(host, port)


def enrol(server: Server, token: EnrolmentToken, device_id: str, folder: Path, floor: tls.Floor) -> identity.Device:
    """Get and save the identity; `folder` is complete afterwards, or untouched. One that is there for the same device and fleet is kept.
    `floor` dates the server's certificate: a new board may have no clock yet.

    Raises Fatal (enrolled as another device), Reject (token used, expired or for another device; wrong CA or root) or Retry (no connection).
    """
    present = identity.load(folder)
    if present is not None:
        return _keep(present, token, device_id)
    ca_pem = _fetch_ca(server, token)
    key = ec.generate_private_key(ec.SECP256R1())
    request = EnrolRequest(token_id=token.id, secret=token.secret, csr_pem=_make_csr(key, device_id))
    answer = _post(server, tls.client_context(ca_pem.decode(), floor), request)
    root = _check_root(answer, token)
    device = _check_answer(answer, server, token, device_id)
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate_pem = answer.certificate_pem.encode()
    identity.check_certificate(certificate_pem, ca_pem, key_pem, device_id)
    atomic.make_folder(folder.parent)
    identity.save(folder, device, key_pem=key_pem, certificate_pem=certificate_pem, ca_pem=ca_pem, root=root)
    return device


def _keep(present: identity.Identity, token: EnrolmentToken, device_id: str) -> identity.Device:
    device = present.device
    if device.device_id != device_id or device.root_sha256 != token.root_sha256:
        raise Fatal(
            f"this state folder belongs to device {device.device_id!r} of fleet {device.fleet!r}; use another one", code="already-enrolled"
        )
    return device


def _make_csr(key: ec.EllipticCurvePrivateKey, device_id: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.device_id(device_id))])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def _fetch_ca(server: Server, token: EnrolmentToken) -> bytes:
    """Over a connection that nobody vouches for: the token's digest does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status, body = _request(server, context, "GET", "/v1/ca.pem")
    if status != http.HTTPStatus.OK:
        raise _refusal(status, body)
    try:
        ca = x509.load_pem_x509_certificate(body)
    except ValueError as error:
        raise Reject(f"{server.url}/v1/ca.pem is not a certificate: {error}", code="wrong-ca") from error
    if hashlib.sha256(ca.public_bytes(serialization.Encoding.DER)).hexdigest() != token.ca_sha256:
        raise Reject(f"the CA of {server.url} is not the one in the token: wrong server, or somebody in between", code="wrong-ca")
    return ca.public_bytes(serialization.Encoding.PEM)


def _post(server: Server, context: ssl.SSLContext, request: EnrolRequest) -> EnrolAnswer:
    status, body = _request(server, context, "POST", "/v1/enrol", msgspec.json.encode(request))
    if status not in (http.HTTPStatus.OK, http.HTTPStatus.CREATED):
        raise _refusal(status, body)
    return read_answer(body)


def read_answer(body: bytes) -> EnrolAnswer:
    """Raises Reject."""
    try:
        return msgspec.json.decode(body, type=EnrolAnswer)
    except (ValueError, RecursionError) as error:
        raise Reject(f"the server's answer is malformed: {error}", code="bad-answer") from error


def _check_root(answer: EnrolAnswer, token: EnrolmentToken) -> bytes:
    try:
        root = base64.b64decode(answer.root_base64, validate=True)
    except ValueError as error:
        raise Reject("the server's TUF root is not base64", code="bad-answer") from error
    if hashlib.sha256(root).hexdigest() != token.root_sha256:
        raise Reject("the server's TUF root is not the one in the token", code="wrong-root")
    return root


def _check_answer(answer: EnrolAnswer, server: Server, token: EnrolmentToken, device_id: str) -> identity.Device:
    try:
        names.device_id(answer.fleet)
        names.name(answer.task, "task")
        mqtt.parse_url(answer.broker_url)
        profiles.load(answer.profile)
    except (ContractError, profiles.ProfileError) as error:
        raise Reject(f"the server's answer: {error}", code="bad-answer") from error
    if answer.device_id != device_id:
        raise Reject(f"the server enrolled {answer.device_id!r}, not {device_id!r}", code="bad-answer")
    return identity.Device(
        device_id=device_id,
        fleet=answer.fleet,
        profile=answer.profile,
        task=answer.task,
        broker_url=answer.broker_url,
        server_url=server.url,
        root_sha256=token.root_sha256,
    )


def _request(server: Server, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(server.host, server.port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        with connection.getresponse() as answer:
            data = answer.read(limits.MAX_JSON_BODY_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        raise Reject(f"the certificate of {server.url} is not from the token's CA: {error.verify_message}", code="wrong-ca") from error
    except (OSError, http.client.HTTPException) as error:
        raise Retry(f"no answer from {server.url}: {error}", code="offline") from error
    finally:
        connection.close()
    if len(data) > limits.MAX_JSON_BODY_BYTES:
        raise Reject(f"{path} answers more than {limits.MAX_JSON_BODY_BYTES} bytes", code="too-large")
    return answer.status, data


def _refusal(status: int, body: bytes) -> Reject | Retry:
    try:
        problem = msgspec.json.decode(body, type=_ErrorBody).error
    except (ValueError, RecursionError):
        problem = _Problem(message=f"HTTP status {status}")
    kind = Retry if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR else Reject
    return kind(f"the server refused: {problem.message}", code=problem.code)
