"""A source that is read ahead in a thread of its own, so that acquiring and decoding go on while the model works."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from edge_agent.errors import Fatal
from edge_agent.ports import Input, Source
from edge_agent.sources.backlog import PATIENCE_S, Backlog, Rules
from edge_agent.sources.losses import Losses
from fleet_contract.inputs import InputSpec

log = logging.getLogger(__name__)

SOURCE_FAILED = "source-failed"
_FIRST_IDLE_S = 0.001
_LONGEST_IDLE_S = 0.1
_LOOKING_SHARE = 0.05
_LONGEST_REST_S = 2.0
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0
_LAST_JOIN_S = 5.0


class Intake:
    """Implements ports.Source over another. What waits when the model's input changes is read again, if the source can resume, and counted as lost
    if not. A source that raises anything but Fatal is counted and read again, at first after a second, at last once a minute."""

    def __init__(
        self,
        source: Source,
        rules: Rules,
        *,
        longest_idle_s: float = _LONGEST_IDLE_S,
        retry_s: float = _FIRST_RETRY_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`longest_idle_s`: how long to leave a source alone that has nothing; 0 for one that waits itself."""
        self._source, self._monotonic_s = source, monotonic_s
        self._longest_idle_s, self._retry_s = longest_idle_s, retry_s
        self._losses = Losses()
        self._backlog = Backlog(rules, self._losses)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        """One reader at a time: a new one ends the one before it."""
        self._stop.set()
        while self._is_running():  # as long as the source takes to give its thread back
            yield None
        self._backlog.forget()
        stop = self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(spec, after, stop), name="intake", daemon=True)
        self._thread.start()
        try:
            yield from self._backlog.read()
        finally:
            stop.set()

    def losses(self) -> dict[str, int]:
        found = self._losses.take()
        for reason, count in self._source.losses().items():
            found[reason] = found.get(reason, 0) + count
        return found

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_LAST_JOIN_S)
        self._source.close()

    def _is_running(self) -> bool:
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
        return self._thread is not None and self._thread.is_alive()

    def _fill(self, spec: InputSpec, after: str | None, stop: threading.Event) -> None:
        position = _Position(after)
        while not stop.is_set():
            try:
                self._pour(spec, position, stop)
                return self._backlog.finish()
            except Fatal as error:
                return self._backlog.finish(error)
            except Exception:  # a source of one's own may raise anything, and the next attempt may work
                log.exception("the source failed and is read again")
                self._losses.add(SOURCE_FAILED)
            stop.wait(min(self._retry_s * 2 ** min(position.fail(), 10), _LONGEST_RETRY_S))

    def _pour(self, spec: InputSpec, position: "_Position", stop: threading.Event) -> None:
        idle, began_s = 0, self._monotonic_s()
        with closing(self._source.read(spec, position.cursor)) as stream:
            for taken in stream:
                if stop.is_set():
                    return
                if taken is None:
                    stop.wait(self._rest_s(idle, self._monotonic_s() - began_s))
                    idle += 1
                else:
                    idle = 0
                    self._put(position.passed(taken), stop)
                began_s = self._monotonic_s()

    def _rest_s(self, idle: int, looked_s: float) -> float:
        """Longer each time, and so long that looking (a folder of 100,000 files takes a while) does not take more than its share."""
        if self._longest_idle_s <= 0:
            return 0.0
        return max(min(_FIRST_IDLE_S * 2 ** min(idle, 20), self._longest_idle_s), min(looked_s / _LOOKING_SHARE, _LONGEST_REST_S))

    def _put(self, taken: Input, stop: threading.Event) -> None:
        while not self._backlog.offer(taken) and self._backlog.blocks and not stop.is_set():
            self._backlog.wait_for_room()


@dataclass
class _Position:
    """How far a source was read, and how often in a row it failed."""

    cursor: str | None
    failures: int = 0

    def passed(self, taken: Input) -> Input:
        """The first one after a failure does not follow the one before it."""
        self.cursor = taken.cursor or self.cursor
        after_failure, self.failures = self.failures > 0, 0
        return replace(taken, follows=False) if after_failure else taken

    def fail(self) -> int:
        """How often it had failed before."""
        self.failures += 1
        return self.failures - 1
