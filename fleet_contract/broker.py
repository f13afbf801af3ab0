"""Where a broker is, and how a program proves itself to it."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fleet_contract import limits, tls
from fleet_contract.errors import ContractError


class BadUrl(ContractError):
    code = "bad-url"


class BadIdentity(ContractError):
    """A certificate or key file that is missing, unreadable or does not belong to the other."""

    code = "bad-identity"


@dataclass(frozen=True)
class Tls:
    """PEM files of one identity: the fleet's CA, this side's certificate chain and its key (None, with a broker that asks for neither).
    With a `floor` the peer's certificate is dated by that instead of the machine's clock (see fleet_contract.tls)."""

    ca: Path
    certificate: Path | None
    key: Path | None
    floor: tls.Floor | None = None

    def context(self) -> ssl.SSLContext:
        """Raises BadIdentity naming the file."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca)) if self.floor is None else tls.client_context(self.ca, self.floor)
        except OSError as error:
            raise BadIdentity(f"cannot use the CA certificate {self.ca}: {error}", field="ca") from error
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise BadIdentity(f"cannot use {self.certificate} with the key {self.key}: {error}", field="certificate") from error
        return context


@dataclass(frozen=True)
class Access:
    """How a broker is used. `password` is of no use without a `user`. `in_flight` messages of ours may wait for their PUBACK, `receive_maximum` of the
    broker's."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    max_packet_bytes: int = limits.MAX_MQTT_PACKET_BYTES
    receive_maximum: int = 200
    in_flight: int = 20
    keepalive_s: int = 20


def parse_url(url: str, scheme: str = "mqtts") -> tuple[str, int]:
    """Host and port of `mqtts://host[:port]`, or of `mqtt:` where that is asked for. Raises BadUrl."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (8883 if scheme == "mqtts" else 1883)
        (host or "").encode("idna")  # a name that no resolver takes would be a UnicodeError at every connection
    except ValueError as error:
        raise BadUrl(f"broker URL {url!r}: {error}", field="broker") from error
    if parts.scheme != scheme or not host:
        told = "; only TLS is spoken" if scheme == "mqtts" else ""
        raise BadUrl(f"broker URL {url!r} must be {scheme}://host[:port]{told}", field="broker")
    return host, port
