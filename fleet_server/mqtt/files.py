"""Serves repository files to devices, block by block over MQTT, in a thread of its own."""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet_contract import blocks, limits
from fleet_contract.messages import Block, Refusal, Want
from fleet_contract.mqtt import Offline
from fleet_server.errors import NotFound
from fleet_server.mqtt.counts import Count, Counts

log = logging.getLogger(__name__)

_MAX_WAITING = 500
_IDLE_S = 0.2
_MAX_REQUEST_CHARS = 64


class Files(Protocol):
    def file(self, path: str) -> Path:
        """Raises NotFound."""


@dataclass(frozen=True)
class Refused(Exception):
    code: str
    reason: str


Send = Callable[[str, Block | Refusal], None]


class FileService:
    """One thread between `offer` and the connection: a device that asks for much makes others wait, never the ingest."""

    def __init__(self, files: Files, send: Send, counts: Counts) -> None:
        """`send` may raise Offline: then the rest of that request is let go, and the device asks again."""
        self._files, self._send, self._counts = files, send, counts
        self._wants: queue.Queue[tuple[str, Want]] = queue.Queue(_MAX_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def offer(self, device: str, want: Want) -> None:
        """Never blocks. With a full queue the request is let go: the device asks again."""
        try:
            self._wants.put_nowait((device, want))
        except queue.Full:
            self._counts.trouble(Count.QUEUE_FULL, f"{_MAX_WAITING} requests for files wait")

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                device, want = self._wants.get(timeout=_IDLE_S)
            except queue.Empty:
                continue
            try:
                self.answer(device, want)
            except Offline:
                continue
            except Exception:  # one bad request or file must not end the service of all devices
                log.exception("a request of %s for %r was not answered", device, want.path)

    def answer(self, device: str, want: Want) -> None:
        """Send each wanted block that exists, or one Refusal. Raises Offline."""
        try:
            path, numbers = self._plan(want)
        except Refused as refusal:
            self._counts.add(Count.REFUSALS)
            self._send(device, Refusal(request=want.request[:_MAX_REQUEST_CHARS], code=refusal.code, reason=refusal.reason))
            return
        with path.open("rb") as data:
            length = path.stat().st_size
            for number in numbers:
                data.seek(number * want.block_bytes)
                self._send(device, Block(request=want.request, index=number, length=length, data=data.read(want.block_bytes)))
                self._counts.add(Count.BLOCKS)

    def _plan(self, want: Want) -> tuple[Path, list[int]]:
        if not 1 <= len(want.request) <= _MAX_REQUEST_CHARS:
            raise Refused("bad-request", f"a request id has 1 to {_MAX_REQUEST_CHARS} characters")
        if not limits.MIN_BLOCK_BYTES <= want.block_bytes <= limits.MAX_BLOCK_BYTES:
            raise Refused("bad-request", f"block_bytes must be {limits.MIN_BLOCK_BYTES} to {limits.MAX_BLOCK_BYTES}")
        wanted = sum(byte.bit_count() for byte in want.need)
        if wanted > limits.MAX_BLOCKS_PER_REQUEST:
            raise Refused("too-large", f"{wanted} blocks wanted, at most {limits.MAX_BLOCKS_PER_REQUEST} a request")
        try:
            path = self._files.file(want.path)
            count = -(-path.stat().st_size // want.block_bytes)
        except (NotFound, OSError) as error:
            raise Refused("not-found", f"no file {want.path[: limits.MAX_PATH_CHARS]!r}") from error
        numbers = [number for number in blocks.from_bitmap(want.need[: -(-count // 8)]) if number < count]
        if not numbers:
            raise Refused("bad-request", f"none of the wanted blocks exists, the file has {count}")
        return path, numbers
