"""TLS for a device whose clock may be wrong: certificates are dated by a floor of signed time instead of the machine's clock.

OpenSSL is told not to look at the clock (RFC 5280's other checks stay: chain, names, usages), and the ends of the peer's certificate and of the
CA's are compared with the floor during the handshake. What is not valid yet cannot be told without a clock, and is let pass.
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

Floor = Callable[[], datetime]
"""A time that has certainly passed."""

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""


def client_context(ca: Path | str, floor: Floor) -> ssl.SSLContext:
    """Trusts this CA alone (a file, or PEM text), checks the server's name, dates by `floor`. Raises OSError (also for a CA that has ended)."""
    context = DatedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.floor = floor
    if isinstance(ca, Path):
        context.load_verify_locations(cafile=ca)
    else:
        context.load_verify_locations(cadata=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | _NO_CHECK_TIME
    for authority in context.get_ca_certs():
        _check_end(authority, floor(), "the CA's certificate")
    return context


class DatedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        """Raises ssl.SSLCertVerificationError, too, when the peer's certificate has ended at the floor."""
        super().do_handshake(block)
        context = self.context
        if isinstance(context, DatedContext):
            try:
                _check_end(self.getpeercert() or {}, context.floor(), "the server's certificate")
            except ssl.SSLCertVerificationError:
                self.close()
                raise


class DatedContext(ssl.SSLContext):
    sslsocket_class = DatedSocket
    floor: Floor


def _check_end(certificate: dict, floor: datetime, what: str) -> None:
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC) if "notAfter" in certificate else None
    if end is None or end < floor:
        message = f"{what} ended at {end and end.isoformat()}, and it is {floor.isoformat(timespec='seconds')} at least"
        error = ssl.SSLCertVerificationError(1, message)
        error.verify_message = message
        raise error
