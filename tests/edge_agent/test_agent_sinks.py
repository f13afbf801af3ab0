"""Where results go beside the store: at most once each, never waited for, counted where they did not get there."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from edge_agent.errors import Fatal, Retry
from edge_agent.sinks.factory import open_sink
from edge_agent.sinks.lines import RotatedLines
from edge_agent.sinks.outlet import Outlet
from edge_agent.sinks.settings import Callback, JsonLines, MqttTopic, SinkSpec
from edge_agent.sinks.topic import TopicWriter
from fleet_contract import mqtt
from fleet_contract.answers.detail import Box, Boxes
from fleet_contract.broker import Access
from fleet_contract.messages import Result
from tests.fakes.agent_run_world import BEGIN


def results(count: int, first: int = 0) -> list[Result]:
    return [Result(at=BEGIN, bundle="b", input_id=str(n), label="yes", value=0.5, latency_us=9) for n in range(first, first + count)]


class Place:
    """A writer that takes what its script says (None: all; a number: so many; an error), and all when the script is over."""

    def __init__(self, *script: int | Exception | None) -> None:
        self.script = list(script)
        self.got: list[str] = []
        self.calls = 0
        self.closed = threading.Event()
        self.changed = threading.Condition()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def write(self, given: Sequence[Result]) -> int:
        self.may_go_on.wait(30)
        step = self.script.pop(0) if self.script else None
        with self.changed:
            self.calls += 1
            taken = 0 if isinstance(step, Exception) else len(given) if step is None else step
            self.got += [result.input_id for result in given[:taken]]
            self.changed.notify_all()
        if isinstance(step, Exception):
            raise step
        return taken

    def close(self) -> None:
        self.closed.set()

    def wait_until(self, holds) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, 30)


def ids(count: int, first: int = 0) -> list[str]:
    return [str(n) for n in range(first, first + count)]


class TestOutlet:
    def test_results_come_in_order(self) -> None:
        place = Place()
        outlet = Outlet("x", place, 1_000)
        for first in range(0, 300, 30):
            outlet.emit(results(30, first))
        place.wait_until(lambda: len(place.got) == 300)
        outlet.close()
        assert (place.got, outlet.dropped()) == (ids(300), 0)
        assert place.closed.is_set()

    def test_a_slow_place_costs_the_oldest_and_no_time(self) -> None:
        place = Place()
        place.may_go_on.clear()
        outlet = Outlet("x", place, 10)
        outlet.emit(results(1))
        outlet.emit(results(25, 1))
        place.may_go_on.set()
        outlet.close()
        assert place.got[-10:] == ids(10, 16)
        assert len(place.got) + outlet.dropped() == 26

    @pytest.mark.parametrize(
        ("step", "lost"),
        [
            pytest.param(Retry("gone", code="offline"), 5, id="it is gone"),
            pytest.param(ValueError("odd"), 5, id="a mistake in it"),
            pytest.param(2, 3, id="it took some"),
        ],
    )
    def test_what_was_not_taken_is_dropped_and_counted(self, step: int | Exception, lost: int) -> None:
        place = Place(step)
        outlet = Outlet("x", place, 100, first_pause_s=0.001)
        outlet.emit(results(5))
        place.wait_until(lambda: place.calls == 1)
        outlet.emit(results(5, 5))
        place.wait_until(lambda: place.calls >= 2)
        outlet.close()
        assert outlet.dropped() == lost
        assert place.got[-5:] == ids(5, 5)

    def test_closing_writes_what_waits(self) -> None:
        place = Place()
        outlet = Outlet("x", place, 1_000)
        outlet.emit(results(350))
        outlet.close()
        assert place.got == ids(350)


class TestLines:
    def test_a_line_is_a_result(self, tmp_path: Path) -> None:
        box = Box(label="face", score=0.9, x1=0, y1=0, x2=0.5, y2=0.5)
        told = msgspec.structs.replace(results(1)[0], abstained=True, detail=Boxes(found=1, boxes=[box]))
        RotatedLines(tmp_path / "r", 10**6, 2).write([told])
        (line,) = (tmp_path / "r").read_text().splitlines()
        assert msgspec.json.decode(line, type=Result) == told
        assert json.loads(line)["detail"]["boxes"][0]["label"] == "face"
        assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(("files", "kept"), [pytest.param(3, 3, id="three files"), pytest.param(1, 1, id="one file")])
    def test_files_take_turns(self, tmp_path: Path, files: int, kept: int) -> None:
        writer = RotatedLines(tmp_path / "r", 4_096, files)
        for first in range(0, 400, 10):
            writer.write(results(10, first))
        found = sorted(tmp_path.iterdir(), key=lambda path: path.name, reverse=True)
        assert len(found) == kept
        assert all(path.stat().st_size <= 4_096 for path in found)
        told = [json.loads(line)["input_id"] for path in found for line in path.read_text().splitlines()]
        assert told == ids(400)[-len(told) :]

    def test_a_torn_line_is_ended(self, tmp_path: Path) -> None:
        (tmp_path / "r").write_text('{"at":"20')
        RotatedLines(tmp_path / "r", 10**6, 2).write(results(1))
        _, whole = (tmp_path / "r").read_text().splitlines()
        assert json.loads(whole)["input_id"] == "0"

    def test_a_full_disk_is_a_retry(self, tmp_path: Path) -> None:
        (tmp_path / "r").symlink_to("/dev/full")
        with pytest.raises(Retry, match="No space"):
            RotatedLines(tmp_path / "r", 10**6, 2).write(results(1))


class _Application(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[list[dict]] = []
        self.tokens: list[str | None] = []
        self.connections = 0
        self.changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def process_request(self, request, client_address) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def wait_until(self, holds) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, 30)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        with self.server.changed:
            self.server.bodies.append(body)
            self.server.tokens.append(self.headers["Authorization"])
            self.server.changed.notify_all()

    def log_message(self, *_: object) -> None: ...


class TestCallback:
    @pytest.fixture
    def application(self) -> Iterator[_Application]:
        application = _Application()
        yield application
        application.shutdown()
        application.server_close()

    def test_an_application_gets_lists_on_one_connection(self, application: _Application, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("s3cret\n")
        url = f"http://127.0.0.1:{application.server_port}/results?from=camera"
        sink = open_sink(Callback(url=url, token_file=str(tmp_path / "token")))
        for first in range(3):
            sink.emit(results(2, 2 * first))
            application.wait_until(lambda wanted=2 * first + 2: sum(map(len, application.bodies)) == wanted)
        sink.close()
        assert [told["input_id"] for body in application.bodies for told in body] == ids(6)
        assert {*application.tokens} == {"Bearer s3cret"}
        assert application.connections == 1
        assert sink.dropped() == 0

    def test_one_that_says_no_is_counted(self, application: _Application) -> None:
        application.status = 503
        sink = open_sink(Callback(url=f"http://127.0.0.1:{application.server_port}/"))
        sink.emit(results(3))
        application.wait_until(lambda: application.bodies)
        sink.close()
        assert sink.dropped() == 3

    def test_one_that_is_not_there_is_counted(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        sink = open_sink(Callback(url=f"http://127.0.0.1:{port}/"))
        sink.emit(results(3))
        sink.close()
        assert sink.dropped() == 3


@pytest.fixture
def broker_url() -> Iterator[str]:
    if shutil.which("mosquitto") is None:
        pytest.skip("needs mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    broker = subprocess.Popen(["mosquitto", "-p", str(port)], stderr=subprocess.DEVNULL)
    yield f"mqtt://127.0.0.1:{port}"
    broker.terminate()
    broker.wait(30)


def test_a_broker_of_the_site_gets_one_message_a_result(broker_url: str) -> None:
    got: Queue[tuple[str, str]] = Queue()

    def hear(topic: str, payload: bytes, acknowledge: mqtt.Acknowledge) -> None:
        got.put((topic, json.loads(payload)["input_id"]))
        acknowledge()

    listener = mqtt.Session(broker_url, "listener", None, subscriptions=["line/1"], on_message=hear)
    listener.start()
    writer = TopicWriter(broker_url, "line/1", "teller", Access(), None)
    try:
        assert listener.wait_connected(30) and writer.wait_connected(30)
        listener.publish("line/1", msgspec.json.encode(results(1, 99)[0]))
        assert got.get(timeout=30) == ("line/1", "99")  # the broker knows the subscription now
        assert writer.write(results(5)) == 5
        assert [got.get(timeout=30) for _ in range(5)] == [("line/1", number) for number in ids(5)]
    finally:
        writer.close()
        listener.close()
    with pytest.raises(Retry):
        writer.write(results(1))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        pytest.param(JsonLines(path="/nowhere/at/all"), "path", id="no folder"),
        pytest.param(MqttTopic(url="mqtts://broker", topic="t"), "ca", id="TLS without a CA"),
        pytest.param(MqttTopic(url="http://broker", topic="t"), "broker", id="no broker's address"),
        pytest.param(MqttTopic(url="mqtt://broker", topic="t", user="u", password_file="/nowhere"), "password_file", id="no password"),
        pytest.param(Callback(url="ftp://x/"), "url", id="another scheme"),
        pytest.param(Callback(url="http://user:secret@x/"), "url", id="a secret in the address"),
        pytest.param(Callback(url="http://x:y/"), "url", id="no port"),
        pytest.param(Callback(url="http://x/", token_file="/nowhere"), "token_file", id="no token"),
        pytest.param(Callback(url="https://x/", ca="/nowhere"), "ca", id="no CA"),
    ],
)
def test_a_sink_that_cannot_be_is_fatal_and_named(spec: SinkSpec, named: str) -> None:
    with pytest.raises(Fatal, match=named):
        open_sink(spec)
