"""The level-triggered loop: every tick looks at the whole state and does what is missing, so that a lost tick or a restart does no harm."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_INTERVAL_S = 0.5
_SHORTEST_S = 0.05


class ControlLoop:
    """Calls a tick in a thread of its own, at once on `wake` and else twice a second."""

    def __init__(self) -> None:
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, tick: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(tick,), name="control", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def close(self, timeout_s: float = 15.0) -> None:
        self._closing.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout_s)

    def _run(self, tick: Callable[[], None]) -> None:
        failed = ""
        while not self._closing.is_set():
            try:
                tick()
                failed = ""
            except Exception as error:  # the next tick sees the same state again and may succeed
                if repr(error) != failed:
                    log.exception("a control tick failed; it is repeated (the same failure is not logged again)")
                failed = repr(error)
            self._wake.wait(_INTERVAL_S)
            self._wake.clear()
            self._closing.wait(_SHORTEST_S)


class Every:
    """Says whether `interval_s` has passed since it last said so."""

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._monotonic = interval_s, monotonic
        self._next = monotonic()

    def due(self) -> bool:
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True
