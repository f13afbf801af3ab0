"""What the devices of the swarm say together."""

import threading
from collections.abc import Iterable

CONNECTED, ORDERED, BARE = "connected", "ordered", "bare"
PATIENCE_S = 300.0


class Heard:
    """What the swarm says, counted by a thread."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._counts: dict[str, int] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()

    def wait(self, word: str, times: int) -> None:
        """Raises RuntimeError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._counts.get(word, 0) >= times, PATIENCE_S):
                raise RuntimeError(f"the devices never said {word!r} {times} times: {self._counts}")

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            with self._changed:
                self._counts[line.strip()] = self._counts.get(line.strip(), 0) + 1
                self._changed.notify_all()
