"""Short-lived addresses of repository files: who has the address has the permission, for one device, one path and ten minutes."""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from fleet_server.errors import Forbidden

LIFETIME = timedelta(minutes=10)
ROUTE = "/v1/files/"


class Permits:
    """Signs with HMAC-SHA256. `secret` is of this process alone, so that its addresses end with it."""

    def __init__(self, base_url: str, secret: bytes, clock: Callable[[], datetime]) -> None:
        """`base_url` is https://host:port as devices reach it."""
        self._base_url, self._secret, self._clock = base_url, secret, clock

    def url(self, device: str, path: str) -> tuple[str, datetime]:
        """The address of a repository path for this device, and when it expires."""
        expires = int((self._clock() + LIFETIME).timestamp())
        query = urlencode({"device": device, "expires": expires, "permit": self._permit(device, path, expires)})
        return f"{self._base_url}{ROUTE}{quote(path)}?{query}", datetime.fromtimestamp(expires, UTC)

    def check(self, device: str, path: str, expires: int, permit: str) -> None:
        """Raises Forbidden."""
        if not hmac.compare_digest(self._permit(device, path, expires).encode(), permit.encode()):
            raise Forbidden("this permit is not for this file and device, or of an earlier run of the server: ask again", field="permit")
        if self._clock().timestamp() >= expires:
            raise Forbidden("this permit has expired: ask again", field="expires")

    def _permit(self, device: str, path: str, expires: int) -> str:
        return hmac.digest(self._secret, "\n".join((device, path, str(expires))).encode(), "sha256").hex()
