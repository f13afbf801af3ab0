"""Back-pressure from the broker: a sender hands over a few messages and waits until the broker has taken them.

The connection's queue is one for all senders. Who fills it with a file makes acknowledgements and orders wait behind the file.
"""

from collections import deque
from typing import Protocol

from fleet_contract.mqtt import Offline


class Handed(Protocol):
    """As fleet_contract.mqtt.Handover."""

    def taken(self, timeout_s: float = 0.0) -> bool:
        """Raises Offline when it can no longer be told."""


class Window:
    """At most `size` messages that the broker has not taken. For one thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open: deque[Handed] = deque()
        self.lost = False
        """Whether a connection was lost with something open since the last message that was added."""

    def has_room(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` until one more may be handed over. Raises Offline, and forgets what was open, when the connection was lost."""
        try:
            while self._open and self._open[0].taken():
                self._open.popleft()
            if len(self._open) >= self._size and self._open[0].taken(timeout_s):
                self._open.popleft()
        except Offline:
            self._open.clear()
            self.lost = True
            raise
        return len(self._open) < self._size

    def add(self, handed: Handed) -> None:
        self._open.append(handed)
        self.lost = False
