"""What the devices of the swarm say together."""

import threading
import time
from collections.abc import Iterable

CONNECTED, ORDERED, BARE = "connected", "ordered", "bare"
PATIENCE_S = 300.0


def first(word: str) -> str:
    """What is said when the first of them has what `word` says of all."""
    return f"first {word}"


class Heard:
    """What the swarm says, and when, listened to by a thread."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._times: dict[str, list[float]] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()

    def wait(self, word: str, times: int) -> float:
        """Until it was said so often; returns when that was, of time.perf_counter. Raises RuntimeError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._times.get(word, ())) >= times, PATIENCE_S):
                raise RuntimeError(
                    f"the devices never said {word!r} {times} times: { {each: len(at) for each, at in self._times.items()} }"
                )
            return self._times[word][times - 1]

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            with self._changed:
                self._times.setdefault(line.strip(), []).append(time.perf_counter())
                self._changed.notify_all()
