"""Files over HTTP(S), bounded: a total deadline, a minimum rate, a capped length, resumed by range after a cut.

Every byte that comes, those of the headers included, passes one meter, so that a server cannot hold a device up by dripping.
This is the one place where exceptions of sockets, TLS and HTTP become ours.
"""

import http.client
import io
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from edge_agent.errors import Missing, Reject, Retry
from edge_agent.ports import Clock

_CHUNK_BYTES = 64 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_GONE = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True)
class Bounds:
    """One transfer may take `deadline_s` in all, must bring `min_bytes_per_s` on average after `grace_s`, may be silent for `stall_s`,
    and goes on after at most `cuts` lost connections."""

    deadline_s: float = 60.0
    min_bytes_per_s: float = 1_024.0
    grace_s: float = 5.0
    stall_s: float = 10.0
    cuts: int = 3


@dataclass(frozen=True)
class Answer:
    """A body that starts at byte `first` of a file of `length` bytes (None: the server does not say)."""

    first: int
    length: int | None
    chunks: Iterator[bytes]


class Meter:
    """Says how long the next byte may take."""

    def __init__(self, clock: Clock, bounds: Bounds) -> None:
        self._clock, self._bounds = clock, bounds
        self._start_s = clock.monotonic_s()
        self._bytes = 0

    def patience_s(self) -> float:
        """Raises Retry when the transfer is too late or too slow."""
        spent_s = self._clock.monotonic_s() - self._start_s
        if spent_s >= self._bounds.deadline_s:
            raise Retry(f"not all came within {self._bounds.deadline_s:g} s", code="deadline")
        if spent_s > self._bounds.grace_s and self._bytes < spent_s * self._bounds.min_bytes_per_s:
            raise Retry(f"{self._bytes} bytes in {spent_s:.1f} s, at least {self._bounds.min_bytes_per_s:g} a second", code="too-slow")
        return min(self._bounds.stall_s, self._bounds.deadline_s - spent_s)

    def count(self, size: int) -> None:
        self._bytes += size


class Site:
    """Files below one base address. `context` None speaks plain HTTP. Safe for several threads: each transfer has its own connection."""

    def __init__(self, base_url: str, clock: Clock, context: ssl.SSLContext | None, bounds: Bounds = Bounds()) -> None:
        """Raises Reject when the address does not fit the context."""
        self._clock, self._context, self._bounds = clock, context, bounds
        try:
            parts = urlsplit(base_url)
            self._host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Reject(f"{base_url!r} is no address: {error}", code="bad-url") from error
        scheme = "http" if context is None else "https"
        if parts.scheme != scheme or not self._host or parts.query or parts.fragment:
            raise Reject(f"{base_url!r} must be {scheme}://host[:port]/folder", code="bad-url")
        self._port = port or (80 if context is None else 443)
        self._folder = parts.path.rstrip("/")

    def read(self, path: str, max_bytes: int) -> bytes:
        """A small file whole. Raises Retry, Missing or Reject (code too-large)."""
        found = bytearray()
        self.download(path, found.extend, max_bytes=max_bytes)
        return bytes(found)

    def download(self, path: str, sink: Callable[[bytes], object], *, max_bytes: int, have: int = 0) -> int:
        """Give `sink` the file from byte `have` on; how many bytes the file has. A lost connection is taken up again where it broke.
        Raises Retry, Missing or Reject; what the sink got until then is good to go on with."""
        meter = Meter(self._clock, self._bounds)
        done = have
        for cuts_left in range(self._bounds.cuts, -1, -1):
            try:
                for data in self._rest(path, done, max_bytes, meter):
                    sink(data)
                    done += len(data)
                return done
            except Retry as error:
                if error.code != "cut" or not cuts_left:
                    raise
        raise Retry(f"{path}: too many lost connections", code="cut")

    @contextmanager
    def get(self, path: str, *, first: int = 0, last: int | None = None, query: str = "") -> Iterator[Answer]:
        """One request for bytes `first` to `last` inclusive (None: the end); a server without ranges answers from byte 0.
        Raises Retry, Missing or Reject, while the chunks are read too."""
        with self._request(path, first, last, query, Meter(self._clock, self._bounds)) as answer:
            yield answer

    def _rest(self, path: str, have: int, max_bytes: int, meter: Meter) -> Iterator[bytes]:
        with self._request(path, have, None, "", meter) as answer:
            at = answer.first
            if answer.length is not None and answer.length > max_bytes:
                raise Reject(f"{path} has {answer.length} bytes, at most {max_bytes}", code="too-large")
            for data in answer.chunks:
                at += len(data)
                if at > max_bytes:
                    raise Reject(f"{path} has more than {max_bytes} bytes", code="too-large")
                if at > have:
                    yield data[max(0, len(data) - (at - have)) :]
            if answer.length is not None and at < answer.length:
                raise Retry(f"{path} ended after {at} of {answer.length} bytes", code="cut")

    @contextmanager
    def _request(self, path: str, first: int, last: int | None, query: str, meter: Meter) -> Iterator[Answer]:
        url = f"{self._folder}/{path}" + (f"?{query}" if query else "")
        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        with _ours(path), closing(self._connect(meter)) as connection:
            connection.request("GET", url, headers=headers)
            with closing(connection.getresponse()) as response:
                start, length = _opening(path, response, first)
                yield Answer(start, length, _chunks(path, response))

    def _connect(self, meter: Meter) -> http.client.HTTPConnection:
        timeout_s = meter.patience_s()
        if self._context is None:
            connection = http.client.HTTPConnection(self._host or "", self._port, timeout=timeout_s)
        else:
            connection = http.client.HTTPSConnection(self._host or "", self._port, timeout=timeout_s, context=self._context)
        connection.response_class = lambda sock, *rest, **named: http.client.HTTPResponse(_Metered(sock, meter), *rest, **named)  # type: ignore
        return connection


class _Metered:
    """A socket as http.client reads it."""

    def __init__(self, sock: socket.socket, meter: Meter) -> None:
        self._sock, self._meter = sock, meter

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_MeteredReader(self._sock, self._meter))


class _MeteredReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, meter: Meter) -> None:
        self._sock, self._meter = sock, meter
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        self._sock.settimeout(self._meter.patience_s())
        size = self._raw.readinto(buffer)
        self._meter.count(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def _opening(path: str, response: http.client.HTTPResponse, first: int) -> tuple[int, int | None]:
    """Where the body starts, and how long the whole file is."""
    status = response.status
    if status in _GONE:
        raise Missing(f"{path}: the server answers {status}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
        raise Retry(f"{path}: the server answers {status}", code="server")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Reject(f"{path} comes encoded, which was not asked for", code="http")
    if status == HTTPStatus.OK:
        return 0, response.length
    span = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if status != HTTPStatus.PARTIAL_CONTENT or span is None or int(span[1]) != first:
        raise Reject(f"{path}: the server answers {status}", code="http")
    return first, int(span[3])


def _chunks(path: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    with _ours(path):
        while data := response.read1(_CHUNK_BYTES):
            yield data


@contextmanager
def _ours(path: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Retry(f"{path}: the server is not trusted: {error.verify_message}", code="untrusted-server") from error
    except TimeoutError as error:
        raise Retry(f"{path}: the server is silent", code="deadline") from error
    except (ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
        raise Retry(f"{path}: the connection broke: {error}", code="cut") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Retry(f"{path}: {error}", code="offline") from error
