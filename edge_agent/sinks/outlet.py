"""Results on their way to a place that may be slow or gone: nobody waits for it, and what it did not take is counted."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from fleet_contract.messages import Result

log = logging.getLogger(__name__)

_WRITTEN_AT_ONCE = 100
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LAST_WORDS_S = 2.0


class Writer(Protocol):
    """The place itself. Used by one thread."""

    def write(self, results: Sequence[Result]) -> int:
        """How many it took, the first ones; the others are dropped. Raises (Retry, as a rule) where it took none."""

    def close(self) -> None: ...


class Outlet:
    """Implements ports.Sink over a writer, in a thread of its own. The oldest give way when more than `waiting` wait. After a failure the writer is
    left alone for a while, longer each time."""

    def __init__(self, name: str, writer: Writer, waiting: int, *, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._name, self._writer, self._first_pause_s = name, writer, first_pause_s
        self._waiting: deque[Result] = deque(maxlen=waiting)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._dropped = self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def emit(self, results: Sequence[Result]) -> None:
        with self._changed:
            self._dropped += max(0, len(self._waiting) + len(results) - (self._waiting.maxlen or 0))
            self._waiting.extend(results)
            self._changed.notify()

    def dropped(self) -> int:
        with self._changed:
            return self._dropped

    def close(self) -> None:
        """What waits is still written, if that takes no more than two seconds."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        try:
            while taken := self._next():
                self._write(taken)
        finally:
            self._writer.close()

    def _next(self) -> list[Result]:
        """Nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _WRITTEN_AT_ONCE))]

    def _write(self, results: list[Result]) -> None:
        try:
            left = len(results) - self._writer.write(results)
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - whatever a place does, the results go on to the others
            left = len(results)
            self._fail(error)
        with self._changed:
            self._dropped += left

    def _fail(self, error: Exception) -> None:
        if not self._failures:
            log.warning("results are dropped, %s does not take them: %s", self._name, error)
        self._closing.wait(min(self._first_pause_s * 2 ** min(self._failures, 10), _LONGEST_PAUSE_S))
        self._failures += 1
