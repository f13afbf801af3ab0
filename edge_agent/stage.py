"""One step of a production line: a thread that works off what it is given, in order, while the steps before and behind it work on."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Stage(Generic[Item]):
    """At most one item is worked on and one waits, so that little is in memory and lost at once. Where an item's work raises, what waits behind it
    is dropped, the next `put` or `settle` raises the same, once, and the stage is then as new."""

    def __init__(self, name: str, work: Callable[[Item], None]) -> None:
        self._work = work
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_busy = self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Everything that was put is worked off, or has failed."""
        with self._changed:
            return not (self._waiting or self._is_busy)

    def put(self, item: Item) -> None:
        """Waits for room."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)
            self._tell()
            self._waiting.append(item)
            self._changed.notify_all()

    def settle(self) -> None:
        """Returns once everything that was put is worked off."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._is_busy))
            self._tell()

    def close(self) -> None:
        """What is worked on is finished, what waits is dropped."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                item = self._waiting.popleft()
                self._is_busy = True
                self._changed.notify_all()
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001 - it is raised where the items come from
                self._fail(error)

    def _tell(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._waiting.clear()
