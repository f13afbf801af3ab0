"""The server's file service as a device sees it: requests one to one, shared passes, and addresses; each way with its faults."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edge_agent.delivery.exchange import Exchange
from fleet_contract import limits, packets, topics
from fleet_contract.blocks import from_bitmap
from fleet_contract.messages import FromDevice, Packet, Progress, Refusal, Url, Want, WantUrl
from tests.fakes.agent_world import FakeLink

_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Website(BaseHTTPRequestHandler):
    """Serves `files` by range. `answer(request, data, first, last)` may do something else; `ranges` are those that were asked for."""

    def do_GET(self) -> None:
        service: FileService = self.server.service  # type: ignore[attr-defined]
        path = self.path.partition("?")[0].removeprefix("/v1/files/")
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = (int(found[1]), int(found[2])) if found else (0, 0)
        service.ranges.append((first, last))
        with suppress(OSError):  # the device hangs up when it has enough
            service.website(self, service.files[path], first, last)

    def give(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


def by_range(request: Website, data: bytes, first: int, last: int) -> None:
    """As a good server does."""
    body = data[first : last + 1]
    headers = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(data)}", "Content-Length": str(len(body))}
    request.give(206, headers, body)


class FileService:
    """Answers in the thread that asks. `spoil(number, data)` may change a block or lose it (None); `answer` may take a request's place.

    `asked` are the numbers of all blocks asked for, in order; `sent` those that were sent; `passes` the shared topics of passes that were begun.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[FromDevice] = []
        self.ranges: list[tuple[int, int]] = []
        self.asked: list[int] = []
        self.sent: list[int] = []
        self.passes: list[str] = []
        self.url: str | None = None
        self.spoil: Callable[[int, bytes], bytes | None] = lambda number, data: data
        self.answer: Callable[[FromDevice], bool] = lambda message: False
        self.website: Callable[[Website, bytes, int, int], None] = by_range
        self.receive: Callable[[Packet | Url | Refusal], None] = lambda message: None
        self.receive_shared: Callable[[str, Packet], None] = lambda topic, packet: None
        self._pass: Iterator[Packet] = iter(())
        self._ahead = 0

    def serve(self, link: FakeLink, exchange: Exchange) -> None:
        link.on_send = self.take
        self.receive, self.receive_shared = exchange.receive, exchange.receive_shared

    def take(self, message: FromDevice) -> None:
        self.requests.append(message)
        if self.answer(message):
            return
        if isinstance(message, Progress):
            self._ahead = min(self._ahead, limits.MAX_AHEAD_PACKETS - limits.CREDIT_PACKETS)
            self._go_on()
        elif isinstance(message, WantUrl):
            refusal = Refusal(message.request, "no-http", "this server has no HTTPS address")
            self.receive(Url(message.request, self.url + message.path, _FOREVER) if self.url else refusal)
        elif isinstance(message, Want):
            self._give(message)

    def _give(self, message: Want) -> None:
        if message.path not in self.files:
            self.receive(Refusal(message.request, "not-found", "no such file"))
            return
        data, size = self.files[message.path], message.block_bytes
        numbers = [number for number in from_bitmap(message.need) if number * size < max(1, len(data))]
        self.asked += numbers
        found = packets.pack("pass" if message.shared is True else message.request, len(data), size, self._blocks(data, size, numbers))
        if message.shared is not True:
            assert len(numbers) <= limits.MAX_BLOCKS_PER_REQUEST
            for packet in found:
                self.receive(packet)
        else:
            self.passes.append(topics.shared(message.path, size))
            self._pass, self._ahead = found, 0
            self._go_on()

    def _go_on(self) -> None:
        while self._ahead < limits.MAX_AHEAD_PACKETS and (packet := next(self._pass, None)):
            self._ahead += 1
            self.receive_shared(self.passes[-1], packet)

    def _blocks(self, data: bytes, size: int, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            block = self.spoil(number, data[number * size : (number + 1) * size])
            if block is not None:
                self.sent.append(number)
                yield number, block


@contextmanager
def website(service: FileService) -> Iterator[None]:
    """Plain HTTP on a free port of this machine, to which the service's addresses lead."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Website)
    server.daemon_threads = True
    server.service = service  # type: ignore[attr-defined]
    service.url = f"http://127.0.0.1:{server.server_address[1]}/v1/files/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
