"""The one-time enrolment token, and what a device and the server exchange over HTTPS to turn it into a certificate.

The token pins the fleet CA and the first TUF root by SHA-256, so a device needs nothing else to trust the server.
"""

import re

import msgspec

from fleet_contract import limits
from fleet_contract.errors import ContractError

_TOKEN = re.compile(r"ef1\.([a-z0-9]{8,32})\.([A-Za-z0-9_-]{22,86})\.([0-9a-f]{64})\.([0-9a-f]{64})")


class BadToken(ContractError):
    code = "bad-token"


class EnrolmentToken(msgspec.Struct, frozen=True):
    """`secret` is shown once and stored hashed; the digests are of the CA certificate's DER and of 1.root.json's bytes."""

    id: str
    secret: str
    ca_sha256: str
    root_sha256: str

    def text(self) -> str:
        return f"ef1.{self.id}.{self.secret}.{self.ca_sha256}.{self.root_sha256}"

    def __repr__(self) -> str:
        return f"EnrolmentToken(id={self.id!r}, secret=…)"


def parse(text: str) -> EnrolmentToken:
    """Raises BadToken; the error never repeats the token."""
    match = _TOKEN.fullmatch(text.strip()) if len(text) <= limits.MAX_TOKEN_CHARS else None
    if match is None:
        raise BadToken(
            "not an enrolment token; it looks like ef1.<id>.<secret>.<digest>.<digest>", field="token", limit=limits.MAX_TOKEN_CHARS
        )
    return EnrolmentToken(*match.groups())


class EnrolRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/enrol. The CSR's CN must be the device id that the token was made for."""

    token_id: str
    secret: str
    csr_pem: str

    def __repr__(self) -> str:
        return f"EnrolRequest(token_id={self.token_id!r}, secret=…)"


class EnrolAnswer(msgspec.Struct, frozen=True):
    """`root_base64` is 1.root.json. `broker_url` is mqtts://host:port."""

    device_id: str
    fleet: str
    profile: str
    task: str
    certificate_pem: str
    ca_pem: str
    root_base64: str
    broker_url: str
