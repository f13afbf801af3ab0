"""Talks to the fleet server's release API (HTTPS, bearer token): read the releases metadata, upload a signed bundle, start a rollout."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from fleet_contract import limits
from model_tools.errors import BadInput, Failed

_TIMEOUT_S = 60.0


class ReleaseServer:
    """One connection; use as a context manager. Every method raises Failed (the server refuses, with its code, or does not answer)."""

    def __init__(self, url: str, ca: Path | None, token: str, transport: httpx.BaseTransport | None = None) -> None:
        """`ca` is the fleet CA's PEM file, the only one trusted; None trusts the system's. Raises BadInput on plain HTTP or a bad CA file."""
        if not url.startswith("https://"):
            raise BadInput(f"the server's URL must begin with https://, not {url!r}", field="server", limit="https")
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, verify=_context(ca), headers=headers, timeout=_TIMEOUT_S, transport=transport)

    def __enter__(self) -> "ReleaseServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def releases(self) -> bytes:
        """The current releases metadata, unverified."""
        with self._speaking(), self._http.stream("GET", "/v1/tuf/releases.json") as answer:
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > limits.MAX_METADATA_BYTES:
                    raise Failed("the server's releases metadata is too large", field="releases", limit=limits.MAX_METADATA_BYTES)
        return _checked(answer, body)

    def upload(self, name: str, bundle: bytes, releases: bytes) -> dict:
        """The server's description of the bundle, once it is stored and its metadata published."""
        files = {"bundle": (name, bundle, "application/zip"), "releases": ("releases.json", releases, "application/json")}
        return self._post("/v1/bundles", files=files)

    def roll_out(self, sha256: str, *, approved: bool) -> dict:
        """The new rollout."""
        return self._post("/v1/rollouts", json={"bundle": sha256, "approved": approved})

    def _post(self, path: str, **body: object) -> dict:
        with self._speaking():
            answer = self._http.post(path, **body)
        _checked(answer, answer.content)
        return answer.json()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise Failed(f"{self._http.base_url}: {error or type(error).__name__}", field="server", code="unreachable") from error


def read_token(file: Path | None, environment: str | None) -> str:
    """The bearer token: the file's first line, else the given environment value. Raises BadInput, which never repeats it."""
    try:
        text = file.read_text() if file else environment or ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the token file {file}: {type(error).__name__}", field="token") from error
    token = text.strip()
    if not token or len(token) > limits.MAX_TOKEN_CHARS or not token.isascii() or any(c.isspace() for c in token):
        raise BadInput("no API token: give --token-file, or set EDGEFLEET_TOKEN", field="token", limit=limits.MAX_TOKEN_CHARS)
    return token


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(f"{ca} is not a readable PEM certificate: {error}", field="ca") from error


def _checked(answer: httpx.Response, body: bytes) -> bytes:
    """Return `body` of a success, or raise the server's error as Failed."""
    if answer.is_success:
        return body
    try:
        told = httpx.Response(answer.status_code, content=body).json()["error"]
        raise Failed(
            f"the server answers {answer.status_code}: {told['message']}",
            field=told.get("field"),
            limit=told.get("limit"),
            code=told.get("code") or "server",
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failed(f"the server answers {answer.status_code}", code="server") from None
