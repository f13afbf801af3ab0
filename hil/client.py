"""The fleet server's HTTP API, as any outsider would call it."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from hil.errors import ProgramFailed, Refused

_PREFIX = "/v1"
_TIMEOUT_S = 20.0
_PAGE_ROWS = 1_000
_TAIL_CHARS = 500
_BAD_INPUT = (400, 422)


class Client:
    """One person or program with one bearer token. Close it, or use it as a context manager."""

    def __init__(self, url: str, ca: Path, token: str) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, verify=context, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: object) -> Any:
        """The decoded answer. Raises ProgramFailed, with the server's own words where it gave some: Refused where the question was wrong."""
        return self._ask("GET", f"{_PREFIX}{path}", params=_given(query)).json()

    def post(self, path: str, body: object) -> Any:
        """Raises ProgramFailed."""
        return self._ask("POST", f"{_PREFIX}{path}", json=body).json()

    def content(self, path: str) -> bytes:
        """The bytes of a file. Raises ProgramFailed."""
        return self._ask("GET", f"{_PREFIX}{path}").content

    def metrics(self) -> str:
        """The server's numbers in Prometheus' text format. Raises ProgramFailed."""
        return self._ask("GET", "/metrics").text

    def items(self, path: str, **query: object) -> Iterator[dict]:
        """Every item of a list, over all its pages. Raises ProgramFailed."""
        after = None
        while True:
            page = self.get(path, **query, after=after, limit=_PAGE_ROWS)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **what)
        except httpx.TransportError as error:
            raise ProgramFailed(f"{method} {path}: the fleet server does not answer ({error!r})") from error
        if response.is_error:
            failure = Refused if response.status_code in _BAD_INPUT else ProgramFailed
            raise failure(f"{method} {path}: {response.status_code} {response.text[:_TAIL_CHARS]}")
        return response


def _given(query: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
