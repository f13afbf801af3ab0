"""How long a gRPC request may take to come: the library would wait for ever, in one of a few threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

_LOOKS = 3


class Patience:
    """Cancels calls whose request has not come whole after `request_s`, at most half as much later."""

    def __init__(self, request_s: float) -> None:
        self._request_s = request_s
        self._waiting: dict[grpc.ServicerContext, list[None]] = {}
        self._somebody, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="grpc-patience", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._somebody.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def waits(self, context: grpc.ServicerContext) -> Iterator[None]:
        """For the request of this call. Any thread."""
        self._waiting[context] = []
        if not self._somebody.is_set():
            self._somebody.set()
        try:
            yield
        finally:
            del self._waiting[context]

    def _watch(self) -> None:
        """Asleep while nobody waits; a look costs a wake-up, and requests that come at once none."""
        while not self._closing.is_set():
            self._somebody.wait()
            self._closing.wait(self._request_s / (_LOOKS - 1))
            self._somebody.clear()
            for context, looks in list(self._waiting.items()):
                self._somebody.set()
                looks.append(None)
                if len(looks) == _LOOKS:
                    context.cancel()
