"""One HTTP connection that is kept, over TCP or a Unix socket."""

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_client.errors import Unreachable

_UNIX = "unix:"
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Reply:
    """`fields` by their names in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Connection:
    """Opened when it is first used, and anew when the other side has closed it meanwhile."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """`address` is http://HOST:PORT or unix:PATH. Raises ValueError."""
        self._address = address
        self._connection = _open(address, timeout_s)
        self._is_used = False

    def ask(self, method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        """Raises Unreachable."""
        try:
            try:
                return self._exchange(method, path, body, fields)
            except _STALE:
                if not self._is_used:
                    raise
                self.close()
                return self._exchange(method, path, body, fields)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self._address}: {error or type(error).__name__}") from error

    def close(self) -> None:
        self._connection.close()
        self._is_used = False

    def _exchange(self, method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        self._connection.request(method, path, body, dict(fields))
        response = self._connection.getresponse()
        data = response.read()
        self._is_used = True
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, data)


def _open(address: str, timeout_s: float) -> http.client.HTTPConnection:
    if address.startswith(_UNIX):
        return _UnixConnection(address.removeprefix(_UNIX), timeout_s)
    parts = urlsplit(address)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"{address!r} is no address: http://HOST:PORT or unix:PATH")
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
