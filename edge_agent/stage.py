"""One step of a production line: a thread that works off what it is given, in order, while the steps before and behind it work on."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")


class Stage(Generic[Item]):
    """One item waits, and as many are worked on as there are `hands`, so that little is in memory and lost at once. Where an item's work raises, what
    comes behind it is dropped, the next `put` or `settle` raises the same, once, and the stage is then as new."""

    def __init__(
        self,
        name: str,
        work: Callable[[Item], Done],
        deliver: Callable[[Done], None] = lambda done: None,
        *,
        hands: int = 1,
        overlaps: Callable[[], bool] = lambda: True,
    ) -> None:
        """`deliver` gets what `work` made, one by one and in order. While `overlaps` says no, only one item is worked on."""
        self._work, self._deliver, self._overlaps = work, deliver, overlaps
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._taken = self._delivered = 0
        self._dropped_below = 0
        self._is_closed = False
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(hands)]
        for thread in self._threads:
            thread.start()

    @property
    def is_idle(self) -> bool:
        """Everything that was put is worked off, or has failed."""
        with self._changed:
            return self._is_at_rest()

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
            self._changed.wait_for(self._is_at_rest)
            self._tell()

    def close(self) -> None:
        """What is worked on is finished, what waits is dropped."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or (self._waiting and (self._overlaps() or self._taken == self._delivered)))
                if self._is_closed:
                    return
                item, number = self._waiting.popleft(), self._taken
                self._taken += 1
                self._changed.notify_all()
            try:
                done = self._work(item)
                self._await(number)
                if number >= self._dropped_below:
                    self._deliver(done)
            except BaseException as error:  # noqa: BLE001 - it is raised where the items come from
                self._await(number)
                self._fail(error, number)
            with self._changed:
                self._delivered += 1
                self._changed.notify_all()

    def _await(self, number: int) -> None:
        """Until those before it are delivered."""
        with self._changed:
            self._changed.wait_for(lambda: self._delivered == number)

    def _is_at_rest(self) -> bool:
        return not self._waiting and self._taken == self._delivered

    def _tell(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _fail(self, error: BaseException, number: int) -> None:
        """What fails behind what has failed, says nothing new."""
        with self._changed:
            if number < self._dropped_below:
                return
            self._error = error
            self._waiting.clear()
            self._dropped_below = self._taken
