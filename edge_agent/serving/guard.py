"""Who may call: anybody on this board; from elsewhere, who holds a token.

A token file holds the SHA-256 of each token in hex, one a line, as `printf %s "$TOKEN" | sha256sum` writes it; what follows on a line is a remark.
"""

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edge_agent.errors import Fatal
from edge_agent.serving.address import Address, TcpAddress, UnixAddress
from edge_agent.serving.refusals import Refused
from fleet_contract import limits

_DIGEST = re.compile(r"[0-9a-f]{64}(?:\s.*)?")
_DIGEST_CHARS = 64
_BEARER = "bearer "
_OTHERS_MAY_WRITE = 0o022


@dataclass(frozen=True)
class Guard:
    """`digests` None: no token is asked for. `shuns_browsers`: then web pages are turned away, which reach a loopback address through the browser
    of somebody at the board: those of another origin, and those that rebind their own name to the address, so that Host is that name."""

    digests: tuple[bytes, ...] | None
    shuns_browsers: bool = False

    def check(self, authorization: str | None, host: str | None, origin: str | None = None) -> None:
        """Raises Refused (unauthenticated, forbidden)."""
        if self.digests is not None:
            self._check_token(authorization)
        elif self.shuns_browsers and origin is not None:
            raise Refused("web pages are not answered", code="forbidden")
        elif self.shuns_browsers and host is not None and not _is_own(host):
            raise Refused(f"this server answers on its address or localhost, not as {host[:80]!r}", code="forbidden")

    def _check_token(self, authorization: str | None) -> None:
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            raise Refused("a token is needed: Authorization: Bearer TOKEN", code="unauthenticated")
        given = hashlib.sha256(authorization[len(_BEARER) :].strip().encode("latin-1", "replace")).digest()
        matches = [hmac.compare_digest(given, digest) for digest in self.digests or ()]
        if not any(matches):
            raise Refused("the token is not one of this device's", code="unauthenticated")


def guard_of(address: Address, token_file: Path | None) -> Guard:
    """Raises Fatal for an address beyond this board without tokens, or a file that does not hold them."""
    if token_file is not None:
        return Guard(_read(token_file))
    if isinstance(address, TcpAddress) and not address.is_loopback:
        raise Fatal(f"{address} can be reached from elsewhere: a token file is needed", code="token")
    return Guard(None, shuns_browsers=not isinstance(address, UnixAddress))


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        if path.stat().st_mode & _OTHERS_MAY_WRITE:
            raise Fatal(f"others may write {path}: chmod 600", code="token")
        with path.open("rb") as file:
            data = file.read(limits.MAX_TOKEN_FILE_BYTES + 1)
    except OSError as error:
        raise Fatal(f"cannot read the token file {path}: {error.strerror}", code="token") from error
    if len(data) > limits.MAX_TOKEN_FILE_BYTES:
        raise Fatal(f"{path} has more than {limits.MAX_TOKEN_FILE_BYTES} bytes", code="token")
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or not all(_DIGEST.fullmatch(line) for line in lines):
        raise Fatal(f"{path} must hold a SHA-256 in hex on each line (printf %s TOKEN | sha256sum)", code="token")
    return tuple(bytes.fromhex(line[:_DIGEST_CHARS]) for line in lines)


@lru_cache(64)
def _is_own(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True
