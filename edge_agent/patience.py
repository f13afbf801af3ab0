"""How a loop waits before it tries again, and gives up when the agent ends."""

import threading


class Stopped(Exception):
    """The stop event was set while something was being repeated."""


class Patience:
    """From any thread, once `begin` was called."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._stop = threading.Event()

    def begin(self, stop: threading.Event) -> None:
        self._stop = stop

    def pause(self, repeated: int) -> None:
        """Before the repetition of this number in a row, longer each time. Raises Stopped."""
        if self._stop.wait(min(self._first_s * 2 ** min(repeated, 10), self._longest_s)):
            raise Stopped
