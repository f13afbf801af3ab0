"""Inputs that are posted: what each request is answered, what waits for the model, and what is counted."""

import hashlib
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.ports import Input
from edge_agent.serving.address import TcpAddress, UnixAddress
from edge_agent.serving.guard import guard_of
from edge_agent.serving.http.bounds import Bounds
from edge_agent.sources.backlog import Rules
from edge_agent.sources.push import Push
from fleet_contract import limits
from fleet_contract.inputs import ImageInput, VectorInput
from tests.fakes.agent_run_world import FakeClock

ROWS = VectorInput(tensor="input", columns=["t", "p"], low=[-9.0, -9.0], high=[9.0, 9.0])
GREY = ImageInput(tensor="input", height=8, width=8, channels=1)
ANYWHERE = TcpAddress("127.0.0.1", 0)
OPEN = guard_of(ANYWHERE, None)
PICTURE = cv2.imencode(".png", np.full((8, 8), 7, np.uint8))[1].tobytes()


@contextmanager
def pushed_to(rules: Rules = Rules("drop-oldest"), time: str | None = None, bounds: Bounds = Bounds()) -> Iterator[Push]:
    source = Push(ANYWHERE, OPEN, FakeClock(), rules, time, bounds)
    try:
        yield source
    finally:
        source.close()


def post(source: Push, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> tuple[int, dict]:
    with closing(http.client.HTTPConnection("127.0.0.1", source.address.port, timeout=30)) as connection:
        connection.request(method, "/", body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def waiting(stream: Iterator[Input | None]) -> list[Input]:
    """All that there is just now."""
    found = []
    for taken in stream:
        if taken is None:
            return found
        found.append(taken)
    return found


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param(b'{"p": 2, "t": 1, "more": "x"}', [[1, 2]], id="an object, in any order, with more"),
        pytest.param(b"[1, 2]", [[1, 2]], id="a list"),
        pytest.param(b'[{"t": 1, "p": 2}, [3, 4]]', [[1, 2], [3, 4]], id="rows"),
        pytest.param(b'{"t": true, "p": false}', [[1, 0]], id="truth"),
        pytest.param(b"[1e300, -2]", [[np.inf, -2]], id="beyond float32: left to validation"),
    ],
)
def test_rows_are_accepted(body: bytes, rows: list) -> None:
    with pushed_to() as source:
        stream = source.read(ROWS, None)
        assert post(source, body) == (202, {"taken": len(rows)})
        found = waiting(stream)
    assert [taken.values.tolist() for taken in found] == rows
    assert len({taken.id for taken in found}) == len(rows)
    assert all(taken.cursor is None for taken in found)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "no JSON", id="nothing"),
        pytest.param(b"{", "no JSON", id="torn"),
        pytest.param(b"\xff\xfe", "no JSON", id="no text"),
        pytest.param(b"[" * 100_000, "no JSON", id="a well"),
        pytest.param(b"3", "an object or a list", id="a number"),
        pytest.param(b"[]", "0 values for 2 columns", id="an empty list"),
        pytest.param(b"[1, 2, 3]", "3 values for 2 columns", id="too many"),
        pytest.param(b'{"t": 1}', "lacks p", id="a column is missing"),
        pytest.param(b'{"t": 1, "p": "2"}', "p is no number", id="text"),
        pytest.param(b'{"t": 1, "p": null}', "p is no number", id="null"),
        pytest.param(b'{"t": 1, "p": 1' + b"0" * 400 + b"}", "p is too large", id="a huge whole number"),
        pytest.param(b"[[1, 2], [3]]", "row 2: 1 values", id="the second row is bad"),
        pytest.param(b"[" + b"[1,2]," * limits.MAX_PUSHED_ROWS + b"[1,2]]", f"at most {limits.MAX_PUSHED_ROWS}", id="too many rows"),
    ],
)
def test_what_is_no_row_is_refused_whole_and_counted(body: bytes, says: str) -> None:
    with pushed_to() as source:
        stream = source.read(ROWS, None)
        status, told = post(source, body)
        assert (status, told["code"]) == (400, "bad-row")
        assert says in told["error"]
        assert waiting(stream) == []
        assert source.losses() == {"bad-row": 1}


def test_a_picture_is_accepted_as_it_is() -> None:
    with pushed_to() as source:
        stream = source.read(GREY, None)
        assert post(source, PICTURE)[0] == 202
        (taken,) = waiting(stream)
    assert (taken.values.shape, taken.values.max(), taken.media_type, taken.data) == ((1, 8, 8), 7, "image/png", PICTURE)


def test_a_corrupt_picture_is_refused() -> None:
    with pushed_to() as source:
        source.read(GREY, None)
        status, told = post(source, PICTURE[:-9])
        assert (status, told["code"], source.losses()) == (400, "corrupt-image", {"corrupt-image": 1})


def test_before_there_is_a_model_nothing_is_taken() -> None:
    with pushed_to() as source:
        status, told = post(source, b"[1, 2]")
        assert (status, told["code"]) == (503, "no-model")


@pytest.mark.parametrize(
    ("policy", "expected", "lost", "left"),
    [
        pytest.param("drop-oldest", (202, 3), {"queue-full": 1}, [2, 3], id="drop oldest"),
        pytest.param("drop-newest", (429, 2), {"queue-full": 1}, [1, 2], id="drop newest"),
        pytest.param("block", (429, 2), {}, [1, 2], id="block"),
    ],
)
def test_a_full_queue_does_as_its_policy_says(policy: str, expected: tuple[int, int], lost: dict, left: list) -> None:
    with pushed_to(Rules(policy, 2)) as source:
        stream = source.read(ROWS, None)
        status, told = post(source, b"[[1, 0], [2, 0], [3, 0]]")
        assert (status, told["taken"]) == expected
        assert [taken.values[0] for taken in waiting(stream)] == left
        assert source.losses() == lost


def test_rows_may_say_when_they_were_taken() -> None:
    with pushed_to(time="when") as source:
        stream = source.read(ROWS, None)
        rows = [{"t": 1, "p": 2, "when": when} for when in ("2026-01-02T03:04:05Z", 1_767_323_045, "2026-01-02T04:04:05+01:00")]
        post(source, json.dumps(rows).encode())
        assert {taken.at.isoformat() for taken in waiting(stream)} == {"2026-01-02T03:04:05+00:00"}
        for when in ("yesterday", None, True, -1, 1e300):
            status, told = post(source, json.dumps({"t": 1, "p": 2, "when": when}).encode())
            assert (status, told["code"]) == (400, "bad-row")


def test_a_body_beyond_its_bound_is_refused_unread() -> None:
    with pushed_to() as source, socket.create_connection(("127.0.0.1", source.address.port), timeout=30) as caller:
        source.read(ROWS, None)
        caller.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        assert caller.recv(64).startswith(b"HTTP/1.1 413 ")
        assert source.losses() == {"too-large": 1}


def test_half_a_request_is_given_up() -> None:
    with (
        pushed_to(bounds=Bounds(request_s=0.1)) as source,
        socket.create_connection(("127.0.0.1", source.address.port), timeout=30) as caller,
    ):
        source.read(ROWS, None)
        caller.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n[1,")
        assert caller.recv(64).startswith(b"HTTP/1.1 408 ")
        assert post(source, b"[1, 2]")[0] == 202


def test_only_posts_are_taken() -> None:
    with pushed_to() as source:
        assert post(source, b"", method="GET")[0] == 405


def test_a_web_page_posts_nothing() -> None:
    with pushed_to() as source:
        source.read(ROWS, None)
        assert post(source, b"[1, 2]", {"Origin": "https://elsewhere.example"})[0] == 403


def test_a_caller_from_elsewhere_needs_the_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(hashlib.sha256(b"secret").hexdigest())
    tokens.chmod(0o600)
    source = Push(ANYWHERE, guard_of(ANYWHERE, tokens), SystemClock(), Rules("block"))
    try:
        source.read(ROWS, None)
        assert post(source, b"[1, 2]")[0] == 401
        assert post(source, b"[1, 2]", {"Authorization": "Bearer wrong"})[0] == 401
        assert post(source, b"[1, 2]", {"Authorization": "Bearer secret"})[0] == 202
    finally:
        source.close()


def test_a_unix_socket_takes_inputs_too(tmp_path: Path) -> None:
    source = Push(UnixAddress(tmp_path / "in.sock"), OPEN, SystemClock(), Rules("block"))
    try:
        stream = source.read(ROWS, None)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "in.sock"))
            caller.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n[1, 2]")
            assert caller.recv(64).startswith(b"HTTP/1.1 202 ")
        assert len(waiting(stream)) == 1
    finally:
        source.close()


def test_another_model_gets_only_what_comes_for_it() -> None:
    with pushed_to() as source:
        source.read(ROWS, None)
        post(source, b"[1, 2]")
        stream = source.read(GREY, None)
        post(source, PICTURE)
        assert [taken.values.shape for taken in waiting(stream)] == [(1, 8, 8)]
        assert source.losses() == {"model-changed": 1}
