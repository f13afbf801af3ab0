"""Who may use one of a few workers next: who asked first. Who would wait behind too many is turned away at once."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edge_agent.errors import Retry

T = TypeVar("T")


class Shut(Exception):
    """Nobody is let in any more."""


@dataclass(eq=False, slots=True)
class _Waiter(Generic[T]):
    """`called` is held until there is a slot."""

    called: threading.Lock = field(default_factory=threading.Lock)
    slot: T | None = None


class Admission(Generic[T]):
    """Hands out slots, each to one at a time. Any thread."""

    def __init__(self, slots: Sequence[T], max_waiting: int) -> None:
        self._lock = threading.Lock()
        self._at_rest = threading.Condition(self._lock)
        self._count = len(slots)
        self._free = [*reversed(slots)]
        self._waiting: deque[_Waiter[T]] = deque()
        self._max_waiting = max_waiting
        self.is_open = True

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def acquire(self, timeout_s: float | None = None) -> T:
        """The slot that was released last, for it is warm. Raises Shut, or Retry: `overloaded` at once, `deadline` after `timeout_s`."""
        with self._lock:
            if not self.is_open:
                raise Shut
            if self._free:
                return self._free.pop()
            if len(self._waiting) >= self._max_waiting:
                raise Retry(f"{self._max_waiting} requests wait already", code="overloaded")
            waiter: _Waiter[T] = _Waiter()
            waiter.called.acquire()
            self._waiting.append(waiter)
        return self._wait(waiter, timeout_s)

    def release(self, slot: T, *, last: bool = False) -> None:
        """To whoever waits longest. `last`: if nobody does, the next one gets any other slot first."""
        with self._lock:
            if self._waiting:
                waiter = self._waiting.popleft()
                waiter.slot = slot
                waiter.called.release()
                return
            self._free.insert(0 if last else len(self._free), slot)
            if not self.is_open:
                self._at_rest.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait until those who were are done: each has a deadline."""
        with self._lock:
            self.is_open = False
            self._at_rest.wait_for(lambda: len(self._free) == self._count)

    def open(self) -> None:
        with self._lock:
            self.is_open = True

    def _wait(self, waiter: _Waiter[T], timeout_s: float | None) -> T:
        if not waiter.called.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s)):
            with self._lock:
                if waiter.slot is None:
                    self._waiting.remove(waiter)
                    raise Retry(f"no worker was free within {timeout_s:g} s", code="deadline")
        return waiter.slot
