"""Serves repository files to devices: one to one in a thread of its own, the shared passes in another, and addresses for HTTPS."""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fleet_contract import limits
from fleet_contract.messages import Packet, Progress, Refusal, Url, Want, WantUrl
from fleet_contract.mqtt import Offline
from fleet_server.errors import NotFound
from fleet_server.mqtt.answers import Answers
from fleet_server.mqtt.broadcast import Broadcast, Wire
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.passes import PassRules
from fleet_server.mqtt.wants import Grid, Refused, check, numbers, refusal
from fleet_server.mqtt.window import Handed, Window

log = logging.getLogger(__name__)

_MAX_WAITING = 500
_MAX_WAITING_PER_DEVICE = 8
_IN_FLIGHT_PACKETS = 8
_IDLE_S = 0.2

Request = Want | WantUrl | Progress


class Files(Protocol):
    def file(self, path: str) -> Path:
        """Raises NotFound."""


class Addresses(Protocol):
    def url(self, device: str, path: str) -> tuple[str, datetime]:
        """Where this device, and nobody else, may have the file, and until when."""


class FileWire(Wire, Protocol):
    def send_answer(self, device: str, answer: Packet | Url | Refusal) -> Handed: ...


class FileService:
    """Threads between `offer` and the connection: a device that asks for much makes others wait, never the ingest, acknowledgements or orders."""

    def __init__(
        self,
        files: Files,
        wire: FileWire,
        counts: Counts,
        *,
        may: Callable[[str], bool] = lambda _: True,
        addresses: Addresses | None = None,
        rules: PassRules = PassRules(),
    ) -> None:
        """A device that `may` not gets a Refusal, `quarantined`; without `addresses` so does a WantUrl, `no-http`."""
        self._files, self._wire, self._counts, self._may, self._addresses = files, wire, counts, may, addresses
        self._broadcast = Broadcast(self._locate, wire, counts, rules)
        self._answers, self._window = Answers(), Window(_IN_FLIGHT_PACKETS)
        self._waiting: queue.SimpleQueue[tuple[str, Want | WantUrl]] = queue.SimpleQueue()
        self._shares: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._broadcast.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Ends within a packet or two: what was not sent is asked for again."""
        self._closing.set()
        self._broadcast.close(timeout_s)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def offer(self, device: str, request: Request) -> None:
        """Never blocks. What finds no place is let go: the device asks again."""
        if self._may(device) and (isinstance(request, Progress) or _is_shared(request)):
            self._broadcast.offer(device, request)
        elif not isinstance(request, Progress):
            self._queue(device, request)

    def _queue(self, device: str, request: Want | WantUrl) -> None:
        with self._lock:
            full = self._shares.total() >= _MAX_WAITING or self._shares[device] >= _MAX_WAITING_PER_DEVICE
            if not full:
                self._shares[device] += 1
                self._waiting.put((device, request))
        if full:
            self._counts.trouble(Count.QUEUE_FULL, f"a request of {device} for a file found no place")

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                device, request = self._waiting.get(timeout=_IDLE_S)
            except queue.Empty:
                continue
            with self._lock:
                self._shares[device] -= 1
                self._shares += Counter()  # forgets the devices that wait no more
            try:
                self.answer(device, request)
            except Offline:
                continue
            except Exception:  # one bad request or file must not end the service of all devices
                log.exception("a request of %s for %r was not answered", device, request.path)

    def answer(self, device: str, request: Want | WantUrl) -> None:
        """Send what was asked for, or one Refusal. Raises Offline: then the rest of the request is let go, and the device asks again."""
        try:
            check(request)
            if not self._may(device):
                raise Refused("quarantined", "this device is in quarantine")
            if isinstance(request, WantUrl):
                self._send_url(device, request)
            elif _is_shared(request):
                self._broadcast.offer(device, request)
            else:
                self._send_blocks(device, request)
        except Refused as refused:
            self._counts.add(Count.REFUSALS)
            self._wire.send_answer(device, refusal(request.request, refused))

    def _send_url(self, device: str, want: WantUrl) -> None:
        if self._addresses is None:
            raise Refused("no-http", "this server serves no files over HTTPS")
        self._locate(want.path, limits.MAX_BLOCK_BYTES)
        self._wire.send_answer(device, Url(want.request, *self._addresses.url(device, want.path)))
        self._counts.add(Count.URLS)

    def _send_blocks(self, device: str, want: Want) -> None:
        grid = self._locate(want.path, want.block_bytes)
        try:
            for packet in self._answers.packets(want.request, grid, numbers(want, grid)):
                while not self._window.has_room(_IDLE_S):
                    if self._closing.is_set():
                        return
                self._window.add(self._wire.send_answer(device, packet))
                self._counts.add(Count.BLOCKS, len(packet.numbers))
        except Offline:
            raise
        except OSError as error:
            raise Refused("not-found", f"{want.path!r} cannot be read") from error

    def _locate(self, path: str, block_bytes: int) -> Grid:
        try:
            file = self._files.file(path)
            return Grid(path, file, file.stat().st_size, block_bytes)
        except (NotFound, OSError) as error:
            raise Refused("not-found", f"no file {path[: limits.MAX_PATH_CHARS]!r}") from error


def _is_shared(request: Want | WantUrl) -> bool:
    return isinstance(request, Want) and request.shared is True
