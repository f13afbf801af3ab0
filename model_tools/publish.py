"""Talks to the fleet server's release API (HTTPS, bearer token): read what is released, upload a signed bundle, start a rollout."""

import hashlib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from fleet_contract import limits
from model_tools.errors import BadInput, Failed

_TIMEOUT_S = 60.0
_PAGE_ROWS = 100
_MAX_PAGE_BYTES = _PAGE_ROWS * limits.MAX_MANIFEST_BYTES


class _Row(msgspec.Struct):
    sha256: str
    task: str


class _Page(msgspec.Struct):
    items: list[_Row]
    next: int | None = None


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
        return self._get("/v1/tuf/releases.json", limits.MAX_METADATA_BYTES)

    def targets(self) -> bytes:
        """The targets metadata, unverified."""
        return self._get("/v1/tuf/targets.json", limits.MAX_METADATA_BYTES)

    def newest(self, task: str, most: int) -> list[str]:
        """The digests of the bundles of `task` that were published last, the newest first."""
        found: list[str] = []
        after = 0
        while after is not None:
            body = self._get("/v1/bundles", _MAX_PAGE_BYTES, after=after, limit=_PAGE_ROWS)
            try:
                page = msgspec.json.decode(body, type=_Page)
            except (ValueError, RecursionError) as error:
                raise Failed(f"the server's list of bundles is malformed: {error}", field="server") from error
            found += [row.sha256 for row in page.items if row.task == task]
            after = page.next
        return found[: -most - 1 : -1]

    def archive(self, sha256: str) -> bytes:
        """A published bundle's bytes. Raises Failed also when they do not have the digest."""
        data = self._get(f"/v1/bundles/{sha256}/content", limits.MAX_BUNDLE_BYTES)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Failed(f"the server sends another bundle than {sha256}", field="bundle")
        return data

    def upload(self, name: str, bundle: bytes, releases: bytes, deltas: Sequence[bytes] = ()) -> dict:
        """The server's description of the bundle, once it is stored and its metadata published. `deltas` are those that the metadata lists."""
        files = {"bundle": (name, bundle, "application/zip"), "releases": ("releases.json", releases, "application/json")}
        for number, wire in enumerate(deltas):
            files[f"delta-{number}"] = (f"{number}.delta", wire, "application/octet-stream")
        return self._post("/v1/bundles", files=files)

    def roll_out(self, sha256: str, *, approved: bool) -> dict:
        """The new rollout."""
        return self._post("/v1/rollouts", json={"bundle": sha256, "approved": approved})

    def _get(self, path: str, max_bytes: int, **query: int) -> bytes:
        with self._speaking(), self._http.stream("GET", path, params=query) as answer:
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > max_bytes:
                    raise Failed(f"the server's answer to {path} is too large", field="server", limit=max_bytes)
        return _checked(answer, bytes(body))

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
