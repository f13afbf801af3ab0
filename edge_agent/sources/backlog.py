"""Inputs that wait for the model: bounded in number and bytes, with a named rule for what happens when they are too many."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edge_agent.errors import Fatal
from edge_agent.ports import Input
from edge_agent.sources.losses import Losses
from fleet_contract import limits

Policy = Literal["drop-oldest", "drop-newest", "block"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
QUEUE_FULL = "queue-full"
MODEL_CHANGED = "model-changed"
PATIENCE_S = 0.25


@dataclass(frozen=True)
class Rules:
    """What may wait. `block`: whoever acquires waits, or is told to come again; nothing is lost here."""

    policy: Policy
    max_items: int = 64
    max_bytes: int = 32 * limits.MIB

    def __post_init__(self) -> None:
        """Raises Fatal naming the field."""
        if self.policy not in POLICIES:
            raise Fatal(f"the queue's policy is {self.policy!r}, it must be one of {', '.join(POLICIES)}", code="setting")
        if not 1 <= self.max_items <= limits.MAX_QUEUED_INPUTS_COUNT:
            raise Fatal(f"the queue's max_items is {self.max_items}, it must be 1 to {limits.MAX_QUEUED_INPUTS_COUNT}", code="setting")


class Backlog:
    """For any threads. What is taken out leaves in the order in which it came in; the first behind something that was dropped does not follow."""

    def __init__(self, rules: Rules, losses: Losses, on_room: Callable[[], None] = lambda: None) -> None:
        """`on_room` is called by the one who takes, when half is empty and an `offer` had been left to its caller."""
        self._rules, self._losses, self._on_room = rules, losses, on_room
        self._changed = threading.Condition()
        self._waiting: deque[Input] = deque()
        self._bytes = 0
        self._broken = False
        self._blocked = False
        self._over = False
        self._error: Fatal | None = None

    @property
    def blocks(self) -> bool:
        return self._rules.policy == "block"

    def offer(self, taken: Input) -> bool:
        """Whether it waits now. Without room `drop-oldest` makes some, `drop-newest` loses it, `block` leaves it to the caller."""
        size_bytes = _size_of(taken)
        with self._changed:
            while self._waiting and self._is_full(size_bytes):
                if self._rules.policy != "drop-oldest":
                    self._refuse()
                    return False
                self._drop_oldest()
            if self._broken:
                taken, self._broken = replace(taken, follows=False), False
            self._waiting.append(taken)
            self._bytes += size_bytes
            self._changed.notify_all()
        return True

    def take(self) -> Input | None:
        """The oldest; None when there is none. Whoever waits for room hears of it when half is empty: not of each one."""
        with self._changed:
            if not self._waiting:
                return None
            oldest = self._waiting.popleft()
            self._bytes -= _size_of(oldest)
            has_room = self._blocked and len(self._waiting) <= self._rules.max_items // 2
            if has_room:
                self._blocked = False
                self._changed.notify_all()
        if has_room:
            self._on_room()
        return oldest

    def read(self) -> Iterator[Input | None]:
        """What comes, as Source.read gives it, until `finish`; raises the error that it got."""
        paused = False
        while True:
            taken = self.take()
            if taken is None and self._over:
                if self._error is not None:
                    raise self._error
                return
            if taken is None and paused:
                self._wait(lambda: bool(self._waiting) or self._over)
                taken = self.take()
            paused = taken is None
            yield taken

    def wait_for_room(self) -> None:
        """After an `offer` that was left to the caller; a quarter of a second at most."""
        self._wait(lambda: not self._blocked)

    def interrupt(self) -> None:
        """Something was lost before it came here: the next one does not follow."""
        with self._changed:
            self._broken = True

    def finish(self, error: Fatal | None = None) -> None:
        """Nothing more comes; who reads hears it behind what waits."""
        with self._changed:
            self._over, self._error = True, error
            self._changed.notify_all()

    def forget(self) -> None:
        """Empty and open again, for another model. What its source can give again is not lost."""
        with self._changed:
            lost = sum(taken.cursor is None for taken in self._waiting)
            self._waiting.clear()
            self._bytes, self._over, self._error, self._broken, self._blocked = 0, False, None, False, False
            self._changed.notify_all()
        if lost:
            self._losses.add(MODEL_CHANGED, lost)

    def _wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(holds, PATIENCE_S)

    def _is_full(self, size_bytes: int) -> bool:
        return len(self._waiting) >= self._rules.max_items or self._bytes + size_bytes > self._rules.max_bytes

    def _refuse(self) -> None:
        if self.blocks:
            self._blocked = True
        else:
            self._losses.add(QUEUE_FULL)
            self._broken = True

    def _drop_oldest(self) -> None:
        self._bytes -= _size_of(self._waiting.popleft())
        self._losses.add(QUEUE_FULL)
        if self._waiting:
            self._waiting[0] = replace(self._waiting[0], follows=False)
        else:
            self._broken = True


def _size_of(taken: Input) -> int:
    return len(taken.data) + (taken.values.nbytes if taken.values is not None else 0)
