"""Files over HTTP from a server that does everything it can to hold a device up: each transfer ends, in time, within its bounds, with an error of ours."""

import socket
import struct

import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import AgentError, Missing, Reject, Retry
from edge_agent.link.https import Bounds, Site
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.scripted_http import Script, serve

BODY = bytes(range(256)) * 40
MAX_BYTES = 20_000


def whole(connection: socket.socket) -> None:
    connection.sendall(_head("200 OK", len(BODY)) + BODY)


def rest(first: int) -> Script:
    def answer(connection: socket.socket) -> None:
        span = f"Content-Range: bytes {first}-{len(BODY) - 1}/{len(BODY)}\r\n"
        connection.sendall(_head("206 Partial Content", len(BODY) - first, span) + BODY[first:])

    return answer


def truncated(size: int) -> Script:
    return lambda connection: connection.sendall(_head("200 OK", len(BODY)) + BODY[:size])


def reset(size: int) -> Script:
    def answer(connection: socket.socket) -> None:
        truncated(size)(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(65_536))


def drip(head: bytes) -> Script:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"a")

    return answer


def says(status: str, headers: str = "") -> Script:
    return lambda connection: connection.sendall(_head(status, 0, headers))


def silent(connection: socket.socket) -> None:
    connection.recv(1)


def _head(status: str, length: int, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n".encode()


@pytest.mark.parametrize(
    ("scripts", "ranges"),
    [
        pytest.param([whole], [None], id="at once"),
        pytest.param([truncated(4_000), rest(4_000)], [None, "bytes=4000-"], id="cut off, and taken up by range"),
        pytest.param([truncated(4_000), whole], [None, "bytes=4000-"], id="cut off by a server without ranges"),
        pytest.param([truncated(0), truncated(0), whole], [None, None, None], id="cut off before the first byte, twice"),
    ],
)
def test_the_whole_file_comes(scripts: list[Script], ranges: list[str | None]) -> None:
    with serve(scripts) as server:
        assert Site(server.url, SystemClock(), None).read("a/b", MAX_BYTES) == BODY
        assert [server.header(number, "Range") for number in range(len(server.requests))] == ranges


def test_a_reset_connection_is_taken_up_where_it_broke() -> None:
    with serve([reset(4_000), whole]) as server:
        assert Site(server.url, SystemClock(), None).read("a", MAX_BYTES) == BODY


def test_what_an_earlier_process_has_is_not_fetched_again() -> None:
    found = bytearray()
    with serve([rest(9_000)]) as server:
        assert Site(server.url, SystemClock(), None).download("a", found.extend, max_bytes=MAX_BYTES, have=9_000) == len(BODY)
    assert bytes(found) == BODY[9_000:]


@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        pytest.param(says("404 Not Found"), Missing, "not-found", id="no such file"),
        pytest.param(says("403 Forbidden"), Missing, "not-found", id="forbidden"),
        pytest.param(says("503 Unavailable"), Retry, "server", id="a server in trouble"),
        pytest.param(says("429 Too Many Requests"), Retry, "server", id="a busy server"),
        pytest.param(says("302 Found", "Location: http://127.0.0.1/\r\n"), Reject, "http", id="a redirection"),
        pytest.param(says("206 Partial Content", "Content-Range: bytes 5-6/7\r\n"), Reject, "http", id="another range"),
        pytest.param(says("200 OK", "Content-Encoding: gzip\r\n"), Reject, "http", id="a compressed bomb"),
        pytest.param(
            lambda connection: connection.sendall(_head("200 OK", MAX_BYTES + 1)), Reject, "too-large", id="too long by its header"
        ),
        pytest.param(endless, Reject, "too-large", id="endless data"),
        pytest.param(lambda connection: connection.sendall(b"SSH-2.0\r\n\r\n"), Retry, "offline", id="no HTTP"),
        pytest.param(
            lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200), Retry, "offline", id="too many headers"
        ),
    ],
)
def test_a_server_that_misbehaves(script: Script, kind: type[AgentError], code: str) -> None:
    with serve([script]) as server, pytest.raises(kind) as caught:
        Site(server.url, SystemClock(), None, Bounds(cuts=0)).read("a", MAX_BYTES)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"), "too-slow", id="a byte at a time"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX: "), "too-slow", id="a byte at a time in a header"),
        pytest.param(drip(b"HTTP/1.1 2"), "too-slow", id="a byte at a time in the status line"),
    ],
)
def test_a_slow_drip_ends(script: Script, code: str) -> None:
    """A clock that moves half a second each time a byte is waited for."""
    clock = FakeClock(step_s=0.5)
    with serve([script] * 4) as server, pytest.raises(Retry) as caught:
        Site(server.url, clock, None, Bounds(min_bytes_per_s=1e6)).read("a", 10**12)
    assert caught.value.code == code
    assert clock.elapsed_s < 10


def test_a_fast_enough_transfer_ends_at_the_total_deadline() -> None:
    clock = FakeClock(step_s=1.0)
    with serve([drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")]) as server, pytest.raises(Retry) as caught:
        Site(server.url, clock, None, Bounds(deadline_s=20.0, min_bytes_per_s=0.0)).read("a", 10**12)
    assert caught.value.code == "deadline"


def test_a_silent_server_ends() -> None:
    with serve([silent]) as server, pytest.raises(Retry) as caught:
        Site(server.url, SystemClock(), None, Bounds(stall_s=0.1)).read("a", MAX_BYTES)
    assert caught.value.code == "deadline"


def test_nobody_listens() -> None:
    with serve([]) as server:
        url = server.url
    with pytest.raises(Retry):
        Site(url, SystemClock(), None).read("a", MAX_BYTES)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://127.0.0.1/?a", "http://[::"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(Reject) as caught:
        Site(url, SystemClock(), None)
    assert caught.value.code == "bad-url"


def test_a_range_is_one_request() -> None:
    def part(connection: socket.socket) -> None:
        connection.sendall(_head("206 Partial Content", 10, f"Content-Range: bytes 5-14/{len(BODY)}\r\n") + BODY[5:15])

    with serve([part]) as server:
        with Site(server.url, SystemClock(), None).get("a", first=5, last=14, query="permit=x") as answer:
            assert (answer.first, answer.length, b"".join(answer.chunks)) == (5, len(BODY), BODY[5:15])
        assert server.requests[0].startswith("GET /a?permit=x HTTP/1.1")
