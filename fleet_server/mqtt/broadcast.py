"""Runs the shared passes, in a thread of its own: reads each group of blocks once, packs it once, publishes it once."""

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol

from fleet_contract import packets
from fleet_contract.messages import Packet, Progress, Refusal, Want
from fleet_contract.mqtt import Offline
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.passes import LEFT, Group, Leaver, Passes, PassRules
from fleet_server.mqtt.wants import Grid, Refused, check, refusal, shared_bits
from fleet_server.mqtt.window import Handed, Window

log = logging.getLogger(__name__)

_MAX_WAITING = 2_000
_IDLE_S = 0.2
_IN_FLIGHT_PACKETS = 8
_PASS_ID_BYTES = 8

Locate = Callable[[str, int], Grid]
"""The file of a want path on a grid. Raises Refused."""


class Wire(Protocol):
    """What a pass needs of the connection. Sending raises Offline, also while too much waits to be sent."""

    @property
    def connected(self) -> bool: ...

    def send_shared(self, topic: str, packet: Packet) -> tuple[Handed, int]:
        """To every device that listens; also the number of bytes of the message."""

    def send_answer(self, device: str, answer: Refusal) -> Handed: ...


class Broadcast:
    """From `start` to `close`. What came while the connection was away is let go: devices ask again."""

    def __init__(
        self, locate: Locate, wire: Wire, counts: Counts, rules: PassRules = PassRules(), monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._locate, self._wire, self._counts, self._now_s = locate, wire, counts, monotonic_s
        self._passes = Passes(rules, lambda: secrets.token_hex(_PASS_ID_BYTES))
        self._window = Window(_IN_FLIGHT_PACKETS)
        self._inbox: queue.Queue[tuple[str, Want | Progress]] = queue.Queue(_MAX_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="passes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Passes end where they are; devices ask for the rest."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def offer(self, device: str, message: Want | Progress) -> None:
        """Never blocks."""
        try:
            self._inbox.put_nowait((device, message))
        except queue.Full:
            self._counts.trouble(Count.QUEUE_FULL, f"{_MAX_WAITING} messages wait for the shared passes")

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except Offline:
                if self._window.lost or not self._wire.connected:
                    self._passes.resume()
                self._closing.wait(_IDLE_S)
            except Exception:  # one bad request or file must not end the passes of all devices
                log.exception("a step of the shared passes failed")
                self._closing.wait(_IDLE_S)

    def _step(self) -> None:
        """Raises Offline."""
        self._dismiss(self._passes.tick(self._now_s()))
        has_room = self._window.has_room(0.0)
        group = self._passes.next(self._now_s()) if has_room else None
        if group is not None:
            self._send(group)
            self._take_in(0.0)
        elif has_room:
            self._take_in(self._passes.wait_s(self._now_s(), _IDLE_S))
        else:
            self._window.has_room(_IDLE_S)
            self._take_in(0.0)

    def _take_in(self, timeout_s: float) -> None:
        """All that waits; waits itself only for the first."""
        try:
            device, message = self._inbox.get(timeout=timeout_s) if timeout_s > 0 else self._inbox.get_nowait()
            for _ in range(_MAX_WAITING):
                self._take(device, message)
                device, message = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _take(self, device: str, message: Want | Progress) -> None:
        if isinstance(message, Progress):
            self._passes.progress(device, message.request, message.sequence)
            return
        try:
            check(message)
            grid = self._locate(message.path, message.block_bytes)
            self._passes.join(device, message.request, grid, shared_bits(message, grid), self._now_s())
        except Refused as refused:
            self._dismiss([Leaver(device, message.request, refused)])

    def _send(self, group: Group) -> None:
        grid = group.grid
        try:
            with grid.file.open("rb") as file:
                found = [(number, _read(file, number * grid.block_bytes, grid.block_bytes)) for number in group.numbers]
        except OSError as error:
            log.error("the pass over %s ends: %s", grid.path, error)
            self._dismiss(self._passes.abandon(group.pass_id, Refused("not-found", f"no file {grid.path!r}")))
            return
        (packet,) = packets.pack(group.pass_id, grid.length, grid.block_bytes, found, first=group.sequence)
        handed, size = self._wire.send_shared(grid.topic, packet)
        self._window.add(handed)
        self._passes.sent(group, size, self._now_s())
        self._counts.add(Count.SHARED_BLOCKS, len(group.numbers))

    def _dismiss(self, leavers: list[Leaver]) -> None:
        for leaver in leavers:
            self._counts.add(Count.PASSES_LEFT if leaver.why.code == LEFT else Count.REFUSALS)
            self._wire.send_answer(leaver.device, refusal(leaver.request, leaver.why))


def _read(file, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
