"""Results as HTTP requests to an application."""

import http.client
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec

from edge_agent.errors import Fatal, Retry
from fleet_contract import limits
from fleet_contract.messages import Result

_encoder = msgspec.json.Encoder()


class CallbackWriter:
    """Implements outlet.Writer: one POST of a JSON list. The connection is kept; an answer's body is not looked at."""

    def __init__(self, url: str, token: str | None, context: ssl.SSLContext | None, timeout_s: float) -> None:
        """`token` goes into `Authorization: Bearer`. Raises Fatal (sink) for an address that is none."""
        self._connect, self._path = _parse(url, context, timeout_s)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._connection: http.client.HTTPConnection | None = None

    def write(self, results: Sequence[Result]) -> int:
        connection, self._connection = self._connection or self._connect(), None
        try:
            connection.request("POST", self._path, _encoder.encode(results), self._headers)
            answer = connection.getresponse()
            answer.read(limits.MAX_JSON_BODY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Retry(f"no answer: {error}", code="offline") from error
        if answer.isclosed():
            self._connection = connection
        else:
            connection.close()
        if not 200 <= answer.status < 300:
            raise Retry(f"the answer is {answer.status}", code="refused")
        return len(results)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _parse(url: str, context: ssl.SSLContext | None, timeout_s: float) -> tuple[Callable[[], http.client.HTTPConnection], str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Fatal(f"sink url {url!r}: {error}", code="sink") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise Fatal(f"sink url {url!r} must be http://host[:port]/path or https://..., without a user", code="sink")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "https":
        secure = context or ssl.create_default_context()
        return (lambda: http.client.HTTPSConnection(host, port, timeout=timeout_s, context=secure)), path
    return (lambda: http.client.HTTPConnection(host, port, timeout=timeout_s)), path
