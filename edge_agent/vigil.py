"""Waiting awake for what is expected at once: a processor takes longer to wake up than a small model to answer."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_ABSTINENT_WAITS = 16
"""Who waited awake in vain, sleeps for so many."""


class Vigil:
    """Of one thread that waits for the same thing again and again.

    In a closed loop it is waited for awake for up to `awake_s`, each look behind which the processor is offered to whoever else wants it
    (sched_yield(2)). Where that was in vain, or what is waited for comes more slowly, the thread sleeps."""

    def __init__(
        self,
        awake_s: float,
        monotonic_s: Callable[[], float] = time.perf_counter,
        step_aside: Callable[[], None] = os.sched_yield,
    ) -> None:
        """0 never waits awake."""
        self._awake_s, self._monotonic_s, self._step_aside = awake_s, monotonic_s, step_aside
        self._is_awake = False
        self._abstaining = 0

    def keep(self, look: Callable[[], T | None], sleep: Callable[[], T]) -> T:
        """What `look` gives once it is not None, or what `sleep` gives, which waits for it in the kernel."""
        if self._is_awake:
            found = self._watch(look)
            return sleep() if found is None else found
        if self._abstaining:
            self._abstaining -= 1
            return sleep()
        began_s = self._monotonic_s()
        found = sleep()
        self._is_awake = self._monotonic_s() - began_s < self._awake_s
        return found

    def _watch(self, look: Callable[[], T | None]) -> T | None:
        monotonic_s, step_aside = self._monotonic_s, self._step_aside
        end_s = monotonic_s() + self._awake_s
        while monotonic_s() < end_s:
            found = look()
            if found is not None:
                return found
            step_aside()
        self._is_awake = False
        self._abstaining = _ABSTINENT_WAITS
        return None


def affordable(awake_s: float) -> float:
    """0 for a process that has one processor alone: the other side could not get on meanwhile."""
    return awake_s if len(os.sched_getaffinity(0)) > 1 else 0.0
