"""SIGTERM and SIGINT for programs whose main thread does the work: heard by a thread of its own.

What a handler calls runs in the midst of whatever the main thread does, perhaps while that holds the very lock that is wanted: then for ever. A
SimpleQueue takes something at any moment; and as its `put` is no Python code, a second signal cannot come in the midst of it.
"""

import queue
import signal
import threading
from collections.abc import Callable


class Signals:
    """From the making of this on they wait for `pass_to`. To be made in the main thread; programs that are started from it do not inherit this."""

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._came.put)

    def pass_to(self, stop: Callable[[], None]) -> None:
        """Call `stop`, in another thread, whenever one comes or has come."""

        def listen() -> None:
            while True:
                self._came.get()
                stop()

        threading.Thread(target=listen, name="signals", daemon=True).start()
