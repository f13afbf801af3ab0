"""The rig's view of the API: pages are followed, and failures say what the server said."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import certifi
import pytest

from hil.client import Client
from hil.errors import ProgramFailed, Refused


class _Fake(BaseHTTPRequestHandler):
    """Three items on two pages, and errors."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/v1/refused/"):
            self._answer(int(path.rsplit("/", 1)[1]), {"error": {"code": "bad-request", "message": "no", "field": "profile"}})
        elif path != "/v1/things":
            self._answer(404, {"error": {"code": "not-found", "message": "no such thing"}})
        elif "after=2" in query:
            self._answer(200, {"items": [{"id": 3}], "next": None})
        else:
            self._answer(200, {"items": [{"id": 1}, {"id": 2}], "next": "2"})

    def _answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def client() -> Iterator[Client]:
    with HTTPServer(("127.0.0.1", 0), _Fake) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}", certifi.where(), "token") as made:
            yield made
        server.shutdown()
        thread.join()


def test_every_page_is_followed(client):
    assert [item["id"] for item in client.items("/things")] == [1, 2, 3]


def test_a_refusal_carries_the_servers_words(client):
    with pytest.raises(ProgramFailed, match=r"404 .*no such thing"):
        client.get("/nothing")


@pytest.mark.parametrize("status", [400, 422])
def test_what_the_server_does_not_take_is_bad_input(client, status):
    with pytest.raises(Refused, match=str(status)):
        client.get(f"/refused/{status}")


def test_a_server_that_is_gone_is_named():
    with Client("http://127.0.0.1:9", certifi.where(), "token") as client, pytest.raises(ProgramFailed, match="does not answer"):
        client.get("/things")
