"""The fleet server's HTTP API, as any outsider would call it."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from hil.errors import ProgramFailed

_PREFIX = "/v1"
_TIMEOUT_S = 20.0
_PAGE_ROWS = 1_000


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
        """The decoded answer. Raises ProgramFailed with the server's own words."""
        return self._answer(self._http.get(f"{_PREFIX}{path}", params=_given(query)))

    def post(self, path: str, body: object) -> Any:
        return self._answer(self._http.post(f"{_PREFIX}{path}", json=body))

    def content(self, path: str) -> bytes:
        """The bytes of a file. Raises ProgramFailed."""
        response = self._http.get(f"{_PREFIX}{path}")
        self._check(response)
        return response.content

    def metrics(self) -> str:
        """The server's numbers in Prometheus' text format. Raises ProgramFailed."""
        response = self._http.get("/metrics")
        self._check(response)
        return response.text

    def items(self, path: str, **query: object) -> Iterator[dict]:
        """Every item of a list, over all its pages."""
        after = None
        while True:
            page = self.get(path, **query, after=after, limit=_PAGE_ROWS)
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def _answer(self, response: httpx.Response) -> Any:
        self._check(response)
        return response.json()

    @staticmethod
    def _check(response: httpx.Response) -> None:
        if response.is_error:
            raise ProgramFailed(f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:500]}")


def _given(query: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
