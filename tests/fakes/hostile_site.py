"""An HTTP server on loopback that serves ranges of files, or misbehaves the way it is told."""

import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Misbehave = Callable[["Handler", bytes], None]
DRIP_S = 0.02


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: "HostileSite"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        self.site.asked.append((path, self.headers.get("Range")))
        data = self.site.files.get(path)
        if data is None:
            self.send_error(404)
            return
        with suppress(ConnectionError):
            (self.site.misbehave or Handler.serve)(self, data)

    def serve(self, data: bytes) -> None:
        """As an honest server would."""
        self.wfile.write(self.body(data))

    def body(self, data: bytes) -> bytes:
        """Sends the head for what was asked; the bytes that belong after it."""
        wanted = self.headers.get("Range")
        if wanted is None:
            self.send_response(200)
            part = data
        else:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last or len(data) - 1), len(data) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
            part = data[int(first) : end + 1]
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        return part

    def drip(self, data: bytes) -> None:
        """A byte at a time until the client or the server goes."""
        for at in range(len(data)):
            if self.site.closing.wait(DRIP_S):
                return
            self.wfile.write(data[at : at + 1])

    def log_message(self, *_: object) -> None: ...


class HostileSite:
    """A context manager; `misbehave` None is honest. `asked` are the paths and their Range headers."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.misbehave: Misbehave | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()
        handler = type("SiteHandler", (Handler,), {"site": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HostileSite":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def endless(handler: Handler, data: bytes) -> None:
    """No length, no end."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.site.closing.is_set():
        handler.wfile.write(bytes(65_536))


def endless_header(handler: Handler, data: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.site.closing.is_set():
        handler.wfile.write(b"x" * 65_536)


def says_too_much(handler: Handler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(2**40))
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = True


def drips(handler: Handler, data: bytes) -> None:
    handler.drip(handler.body(data))


def drips_headers(handler: Handler, data: bytes) -> None:
    handler.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Pad: y\r\n" * 10_000)


def falls_silent(handler: Handler, data: bytes) -> None:
    handler.wfile.write(handler.body(data)[:1_000])
    handler.wfile.flush()
    handler.site.closing.wait()


def truncates(handler: Handler, data: bytes) -> None:
    """Before the first block is whole."""
    handler.wfile.write(handler.body(data)[:1_000])
    handler.close_connection = True


def breaks_off(handler: Handler, data: bytes) -> None:
    """In the middle of some block."""
    handler.wfile.write(handler.body(data)[:50_000])
    handler.close_connection = True


def compresses(handler: Handler, data: bytes) -> None:
    """A bomb that nobody asked for."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def lies_about_the_range(handler: Handler, data: bytes) -> None:
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 7-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - 7))
    handler.end_headers()
    handler.wfile.write(data[7:])


def wrong_bytes(handler: Handler, data: bytes) -> None:
    handler.wfile.write(bytes(len(handler.body(data))))


def speaks_no_http(handler: Handler, data: bytes) -> None:
    handler.wfile.write(bytes(range(256)) * 400)
    handler.close_connection = True
