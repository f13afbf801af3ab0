"""Recorded inputs at the speed of their own times, or a multiple of it."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input, Source
from edge_agent.sources.backlog import PATIENCE_S
from fleet_contract import limits
from fleet_contract.inputs import InputSpec


class Replay:
    """Implements ports.Source over another whose inputs say when they were taken. The first comes at once, every other one when as much time has
    passed since, times the speed, as between the two; one that is dated earlier than the first at once, too."""

    def __init__(self, source: Source, clock: Clock, speed: float, wait: Callable[[float], object] | None = None) -> None:
        """`wait` is given seconds, a quarter of one at most. Raises Fatal."""
        if not 0 < speed <= limits.MAX_SCALE:
            raise Fatal(f"the speed is {speed:g}, it must be more than 0 and at most {limits.MAX_SCALE:g}", code="source")
        self._source, self._clock, self._speed = source, clock, speed
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        first: tuple[datetime, float] | None = None
        for taken in self._source.read(spec, after):
            if taken is None:
                self._wait(PATIENCE_S)
                yield None
            else:
                first = first or (taken.at, self._clock.monotonic_s())
                yield from self._wait_until(first[1] + (taken.at - first[0]).total_seconds() / self._speed)
                if self._closed.is_set():
                    return
                yield taken

    def _wait_until(self, due_s: float) -> Iterator[None]:
        while (left_s := due_s - self._clock.monotonic_s()) > 0 and not self._closed.is_set():
            self._wait(min(left_s, PATIENCE_S))
            if left_s > PATIENCE_S:
                yield None

    def losses(self) -> dict[str, int]:
        return self._source.losses()

    def close(self) -> None:
        self._closed.set()
        self._source.close()
