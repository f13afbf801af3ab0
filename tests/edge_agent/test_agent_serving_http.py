"""The HTTP server takes what RFC 9112 says and nothing that could be read in two ways; slow, halved and huge requests end with an answer."""

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import Fatal
from edge_agent.serving.address import TcpAddress, UnixAddress, parse_address
from edge_agent.serving.http.bounds import Bounds
from edge_agent.serving.http.head import parse
from edge_agent.serving.http.server import HttpServer
from edge_agent.serving.refusals import Refused
from fleet_contract import limits
from tests.fakes.agent_serving import CLASSES, VECTOR, EchoCatalogue, EchoPredictor, manifest_of, rest_server

BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
HOST = b"Host: localhost\r\n"
INFER = b"POST /v2/models/toy/infer HTTP/1.1\r\n" + HOST
LIVE = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"
HURRIED = Bounds(connections=2, idle_s=0.2, request_s=0.2, write_s=0.2, linger_s=0.2, closing_s=5.0)
PATIENT = Bounds(closing_s=5.0, linger_s=0.5)


def toy() -> EchoPredictor:
    return EchoPredictor("toy", manifest_of(VECTOR, CLASSES))


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with rest_server(EchoCatalogue(toy()), bounds=PATIENT) as running:
        yield running


@contextmanager
def connected(server: HttpServer) -> Iterator[socket.socket]:
    address = server.address
    where = str(address.path) if isinstance(address, UnixAddress) else (address.host, address.port)
    with socket.socket(socket.AF_UNIX if isinstance(address, UnixAddress) else socket.AF_INET) as connection:
        connection.settimeout(20)
        connection.connect(where)
        yield connection


def receive(connection: socket.socket) -> tuple[int, dict]:
    """One response."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, body = data.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += _some(connection)
    return int(head.split()[1]), json.loads(body)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError
    return data


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def ask(server: HttpServer, request: bytes) -> tuple[int, dict]:
    with connected(server) as connection:
        connection.sendall(request)
        return receive(connection)


def sized(body: bytes, *fields: bytes) -> bytes:
    return INFER + b"".join(field + b"\r\n" for field in fields) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*lines: bytes) -> bytes:
    return INFER + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(sized(BODY), id="length"),
        pytest.param(b"\r\n" + sized(BODY), id="empty-line-before"),
        pytest.param(sized(BODY, b"expect: 100-Continue"), id="body-sent-without-waiting"),
        pytest.param(sized(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), id="http-1.0"),
        pytest.param(sized(BODY).replace(b"/v2", b"http://localhost/v2", 1), id="absolute-target"),
        pytest.param(sized(BODY).replace(b"/infer", b"/infer?x=1", 1), id="query"),
        pytest.param(chunked(b"%x" % len(BODY), BODY, b"0", b""), id="one-chunk"),
        pytest.param(
            chunked(b"a;name=value", BODY[:10], b"%X" % len(BODY[10:]), BODY[10:], b"0", b"Trailer: 1", b""), id="chunks-and-trailer"
        ),
        pytest.param(sized(gzip.compress(BODY), b"Content-Encoding: gzip"), id="gzip"),
        pytest.param(sized(zlib.compress(BODY), b"Content-Encoding: deflate"), id="deflate"),
    ],
)
def test_what_is_right_is_answered(server: HttpServer, request_: bytes) -> None:
    status, told = ask(server, request_)
    assert (status, told["outputs"][0]["data"]) == (200, [1.0, 2.0])


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        pytest.param(b"GARBAGE\r\n\r\n", 400, "bad-request", id="no-request-line"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400, "bad-request", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\n", 505, "unknown-version", id="http-2"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n\r\n", 400, "bad-request", id="no-host"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, "bad-request", id="two-hosts"),
        pytest.param(b"GET v2 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad-request", id="target-without-slash"),
        pytest.param(b"GET /v2 HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, "bad-request", id="blank-before-colon"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n" + HOST + b"A: 1\r\n 2\r\n\r\n", 400, "bad-request", id="folded-field"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n" + HOST + b"A: 1\nB: 2\r\n\r\n", 400, "bad-request", id="bare-line-feed"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n" + HOST + b"A: \x00\r\n\r\n", 400, "bad-request", id="nul"),
        pytest.param(INFER + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad-request", id="two-lengths"),
        pytest.param(INFER + b"Content-Length: +1\r\n\r\n", 400, "bad-request", id="length-with-sign"),
        pytest.param(INFER + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad-request", id="length-and-chunks"),
        pytest.param(INFER + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "unknown-transfer", id="other-transfer-coding"),
        pytest.param(INFER + b"Expect: wonders\r\nContent-Length: 0\r\n\r\n", 417, "unknown-expectation", id="other-expectation"),
        pytest.param(INFER + b"Content-Length: %d\r\n\r\n" % 2**30, 413, "too-large", id="a-gibibyte"),
        pytest.param(chunked(b"%x" % 2**30), 413, "too-large", id="a-gibibyte-in-chunks"),
        pytest.param(chunked(b"-1"), 400, "bad-request", id="negative-chunk"),
        pytest.param(chunked(b"1" * 2_000), 400, "bad-request", id="endless-chunk-size"),
        pytest.param(chunked(b"1", b"ab"), 400, "bad-request", id="chunk-longer-than-said"),
        pytest.param(chunked(b"0", *[b"A: 1"] * 70), 400, "bad-request", id="endless-trailer"),
        pytest.param(b"GET /v2 HTTP/1.1\r\nA: " + b"a" * limits.MAX_HTTP_HEAD_BYTES, 431, "head-too-large", id="long-head"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n" + b"A: 1\r\n" * 100 + b"\r\n", 431, "head-too-large", id="many-fields"),
        pytest.param(sized(b"no gzip", b"Content-Encoding: gzip"), 400, "bad-request", id="not-gzip"),
        pytest.param(sized(gzip.compress(BODY)[:-4], b"Content-Encoding: gzip"), 400, "bad-request", id="half-a-gzip"),
        pytest.param(sized(BODY, b"Content-Encoding: br"), 415, "unknown-encoding", id="other-content-coding"),
    ],
)
def test_what_is_wrong_is_told_and_the_connection_ends(server: HttpServer, request_: bytes, status: int, code: str) -> None:
    with connected(server) as connection:
        connection.sendall(request_)
        found, told = receive(connection)
        connection.shutdown(socket.SHUT_WR)
        assert (found, told["code"]) == (status, code)
        assert is_closed(connection)


def test_a_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(bytes(2_000_000))
    with rest_server(EchoCatalogue(toy()), bounds=Bounds(body_bytes=1_000_000, linger_s=0.2)) as server:
        assert ask(server, sized(bomb, b"Content-Encoding: gzip"))[0] == 413


def test_bodies_of_all_together_are_bounded() -> None:
    with rest_server(EchoCatalogue(toy()), bounds=Bounds(bodies_bytes=10, linger_s=0.2)) as server:
        assert ask(server, sized(BODY))[1]["code"] == "overloaded"


def test_what_is_announced_and_does_not_come_holds_up_nobody() -> None:
    with rest_server(EchoCatalogue(toy()), bounds=Bounds(bodies_bytes=1_000_000)) as server, connected(server) as dripping:
        dripping.sendall(sized(bytes(999_999))[:500])
        assert ask(server, sized(BODY))[0] == 200


def test_answers_count_among_them_until_they_are_sent() -> None:
    with rest_server(EchoCatalogue(toy()), bounds=Bounds(bodies_bytes=len(BODY) + 10, linger_s=0.2)) as server:
        for _ in range(2):
            assert ask(server, sized(BODY))[1]["code"] == "overloaded"
        assert ask(server, LIVE)[0] == 200


def test_requests_follow_each_other_on_one_connection(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(LIVE + sized(BODY) + LIVE)
        assert receive_many(connection, 3) == [200, 200, 200]
        connection.sendall(sized(b"{"))
        assert receive(connection)[0] == 400
        connection.sendall(LIVE)
        assert receive(connection)[0] == 200


def receive_many(connection: socket.socket, count: int) -> list[int]:
    data = b""
    while data.count(b"HTTP/1.1 ") < count or not data.endswith(b"}"):
        data += _some(connection)
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


def test_a_careful_caller_is_told_to_go_on(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(INFER + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(BODY)
        assert receive(connection)[0] == 200


def test_a_careful_caller_is_refused_before_it_sends_a_gibibyte(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(INFER + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % 2**30)
        assert receive(connection)[0] == 413


def test_a_caller_that_sends_too_much_without_listening_still_reads_why(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(INFER + b"Content-Length: %d\r\n\r\n" % 2**30)
        for _ in range(64):
            connection.sendall(bytes(limits.MIB))
        assert receive(connection)[0] == 413


def test_the_answer_to_head_has_no_body(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(LIVE.replace(b"GET", b"HEAD") + b"GET /v2 HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
        assert data.count(b"\r\n\r\n") == 2
        assert data.split(b"\r\n\r\n")[1].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(INFER, id="half-a-head"),
        pytest.param(sized(BODY)[:-5], id="half-a-body"),
        pytest.param(chunked(b"ff", b"a"), id="half-a-chunk"),
    ],
)
def test_a_request_that_stops_halfway_times_out(part: bytes) -> None:
    with rest_server(EchoCatalogue(toy()), bounds=HURRIED) as server, connected(server) as connection:
        connection.sendall(part)
        status, told = receive(connection)
        assert (status, told["code"]) == (408, "too-slow")
        assert is_closed(connection)


def test_half_a_request_of_a_caller_that_left_is_told(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(sized(BODY)[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection)[0] == 400


def test_an_idle_connection_ends() -> None:
    with rest_server(EchoCatalogue(toy()), bounds=HURRIED) as server, connected(server) as connection:
        connection.sendall(LIVE)
        assert receive(connection)[0] == 200
        assert is_closed(connection)


def test_a_caller_that_does_not_take_its_answer_is_given_up() -> None:
    rows = 1_000_000
    tensor = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8 * rows}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = b"Inference-Header-Content-Length: %d" % len(head)
    bounds = Bounds(write_s=0.2, linger_s=0.2, closing_s=5.0)
    with rest_server(EchoCatalogue(toy()), bounds=bounds) as server, connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(sized(head + bytes(8 * rows), length))
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        while next(iter(server.metrics())).points[0].value:
            threading.Event().wait(0.01)


def test_more_connections_than_there_may_be_are_turned_away() -> None:
    bounds = Bounds(connections=1, linger_s=0.2, closing_s=5.0)
    with rest_server(EchoCatalogue(toy()), bounds=bounds) as server, connected(server) as first:
        first.sendall(LIVE)
        assert receive(first)[0] == 200
        with connected(server) as second:
            status, told = receive(second)
            assert (status, told["code"]) == (503, "overloaded")
        first.sendall(LIVE)
        assert receive(first)[0] == 200
        counted = {metric.name: metric.points[0].value for metric in server.metrics()}
    assert counted == {
        "edge_agent_http_connections": 1,
        "edge_agent_http_connections_total": 1,
        "edge_agent_http_connections_refused_total": 1,
    }


def test_a_board_without_threads_to_spare_goes_on_listening(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with connected(server) as connection:
            assert is_closed(connection)
    assert ask(server, LIVE)[0] == 200


def test_closing_answers_what_is_under_way() -> None:
    predictor = toy()
    predictor.open.clear()
    with rest_server(EchoCatalogue(predictor)) as server, connected(server) as busy, connected(server) as idle:
        busy.sendall(sized(BODY))
        assert predictor.entered.wait(20)
        closing = threading.Thread(target=server.close)
        closing.start()
        assert is_closed(idle)
        predictor.open.set()
        status, _ = receive(busy)
        assert status == 200
        assert is_closed(busy)
        closing.join(20)
        assert not closing.is_alive()


def test_a_mistake_of_ours_costs_one_connection() -> None:
    predictor = toy()
    predictor.failure = ZeroDivisionError("oops")
    with rest_server(EchoCatalogue(predictor), bounds=HURRIED) as server:
        status, told = ask(server, sized(BODY))
        assert (status, told["code"], "oops" in told["error"]) == (500, "internal", False)
        assert ask(server, LIVE)[0] == 200


def test_a_unix_socket_is_for_owner_and_group_and_goes_with_the_server(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "models.sock")
    with rest_server(EchoCatalogue(toy()), address) as server:
        assert address.path.stat().st_mode & 0o777 == 0o660
        assert ask(server, sized(BODY))[0] == 200
        with pytest.raises(Fatal, match="another process listens"), rest_server(EchoCatalogue(), address):
            pass
    assert not address.path.exists()


def test_a_socket_that_nobody_listens_on_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "models.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with rest_server(EchoCatalogue(toy()), UnixAddress(path)) as server:
        assert ask(server, LIVE)[0] == 200


def test_a_file_in_the_sockets_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "models.sock"
    path.write_text("mine")
    with pytest.raises(Fatal, match="is no socket"), rest_server(EchoCatalogue(), UnixAddress(path)):
        pass
    assert path.read_text() == "mine"


def test_a_port_that_is_taken_is_told(server: HttpServer) -> None:
    with pytest.raises(Fatal, match=r"cannot listen on 127\.0\.0\.1"), rest_server(EchoCatalogue(), server.address):
        pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("[::1]:80", TcpAddress("::1", 80)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("unix:/run/models.sock", UnixAddress(Path("/run/models.sock"))),
    ],
)
def test_addresses(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:99999", "a b:1", "unix:", f"unix:/{'a' * 108}"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Fatal):
        parse_address(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(block: bytes) -> None:
    try:
        assert parse(block).path.startswith("/")
    except Refused:
        pass


@given(st.lists(st.tuples(st.sampled_from(["a", "b-c", "X"]), st.text("abc ,;=/", max_size=20)), max_size=8))
def test_fields_are_read_as_they_were_sent(fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"\r\n{name}:{value}" for name, value in fields)
    found = parse(f"GET / HTTP/1.1\r\nHost: h{lines}".encode()).fields
    for name, _ in fields:
        assert found[name.lower()] == ", ".join(value.strip(" ") for other, value in fields if other == name)
