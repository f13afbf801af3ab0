"""Waiting for a process on the far side: ask again until it is so, with a deadline and a reason."""

import time
from collections.abc import Callable
from typing import TypeVar

from hil.errors import NotInTime

T = TypeVar("T")

_INTERVAL_S = 0.1


def wait_until(condition: Callable[[], T], what: str, timeout_s: float, *, check: Callable[[], None] = lambda: None) -> T:
    """Return the first true value of `condition`. `check` runs between tries and may raise, e.g. because a program has died. Raises NotInTime."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        check()
        if time.monotonic() > deadline:
            raise NotInTime(f"{what}: not within {timeout_s:g} s")
        time.sleep(_INTERVAL_S)
    return value
