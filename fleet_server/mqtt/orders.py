"""Publishes retained orders, as many at a time as the connection takes well."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping

from fleet_contract.mqtt import Handover, Offline

log = logging.getLogger(__name__)

_WINDOW = 400
"""Unacknowledged at a time: the connection's queue has room for the others that use it."""
_PATIENCE_S = 0.05

Publish = Callable[[str, bytes], Handover]


class OrderPublisher:
    """One thread between `put` and the connection; the newest order of a device counts. `publish` hands one over or raises Offline, because there is
    no connection or because its queue is full; `online` tells which. What the broker may lack in the end is told to `on_lost`."""

    def __init__(self, publish: Publish, online: Callable[[], bool], on_lost: Callable[[], None]) -> None:
        self._publish, self._online, self._on_lost = publish, online, on_lost
        self._waiting: dict[str, bytes] = {}
        self._retained: set[str] = set()
        self._changed, self._closing = threading.Condition(), threading.Event()
        self._window: deque[Handover] = deque()
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def put(self, envelopes: Mapping[str, bytes]) -> None:
        """Never blocks."""
        with self._changed:
            self._waiting |= envelopes
            self._changed.notify_all()

    def put_missing(self, envelopes: Mapping[str, bytes]) -> None:
        """Those that this connection was not given yet."""
        with self._changed:
            missing = envelopes.keys() - self._retained - self._waiting.keys()
        self.put({device: envelope for device, envelope in envelopes.items() if device in missing})

    def begin_anew(self) -> None:
        """The broker may be a new one, or have lost what it held."""
        with self._changed:
            self._retained = set()
            self._waiting.clear()

    def forget(self, device: str) -> None:
        with self._changed:
            self._retained.discard(device)
            self._waiting.pop(device, None)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            try:
                self._send(*taken)
            except Offline:
                self._window.clear()
                self._on_lost()

    def _take(self) -> tuple[str, bytes, set[str]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            if self._closing.is_set():
                return None
            device = next(iter(self._waiting))
            return device, self._waiting.pop(device), self._retained

    def _send(self, device: str, envelope: bytes, retained: set[str]) -> None:
        """`retained` is of the connection on which it began. Raises Offline."""
        while len(self._window) >= _WINDOW and not self._closing.is_set():
            if self._window[0].taken(_PATIENCE_S):
                self._window.popleft()
        while not self._closing.is_set():
            try:
                self._window.append(self._publish(device, envelope))
                retained.add(device)
                return
            except Offline:
                if not self._online():
                    raise
                self._closing.wait(_PATIENCE_S)
