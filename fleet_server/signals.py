"""SIGTERM and SIGINT for programs whose main thread does the work: heard by a thread of its own.

A handler would interrupt the main thread, perhaps while it holds the very lock that the handler wants, and then wait for ever.
"""

import signal
import threading
from collections.abc import Callable

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


def hold() -> None:
    """From now on they wait for `pass_to`. To be called in the main thread before it starts others, which inherit this."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def pass_to(stop: Callable[[], None]) -> None:
    """Call `stop`, in another thread, whenever one comes or has come since `hold`."""

    def listen() -> None:
        while True:
            signal.sigwait(_ENDING)
            stop()

    threading.Thread(target=listen, name="signals", daemon=True).start()
