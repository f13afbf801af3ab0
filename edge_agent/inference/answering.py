"""Every input of a batch gets an answer or a reason, whatever happens to the worker."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import Reject, Retry
from edge_agent.ports import Host, Inference

_LOST = ("worker-crashed", "worker-timeout")
_ATTEMPTS = 2


@dataclass(frozen=True)
class Answered:
    """Rows `start` .. `stop - 1` of the batch: an inference, or why there is none (a stable word)."""

    start: int
    stop: int
    inference: Inference | None
    reason: str | None = None


class Answerer:
    """Waits while there is no model; after the second lost worker, or a rejected answer, asks row by row, so that one bad input costs only itself."""

    def __init__(self, host: Host, pause: Callable[[int], None], on_failure: Callable[[str], None]) -> None:
        """`pause(n)` waits before the n-th repetition in a row and may raise to give up; `on_failure` hears the code of every failure."""
        self._host = host
        self._pause = pause
        self._on_failure = on_failure

    def answer(self, batch: np.ndarray) -> list[Answered]:
        """In row order, covering the batch. Raises Retry (model-swapped) when the batch no longer fits the active model, or what `pause` raises."""
        whole = self._ask(batch, 0)
        if whole.inference is not None or len(batch) == 1:
            return [whole]
        return [self._ask(batch[row : row + 1], row) for row in range(len(batch))]

    def _ask(self, rows: np.ndarray, start: int) -> Answered:
        stop = start + len(rows)
        lost = repeated = 0
        while True:
            try:
                return Answered(start, stop, self._host.infer(rows))
            except Reject as error:
                self._on_failure(error.code)
                return Answered(start, stop, None, f"answer-{error.code}")
            except Retry as error:
                if error.code == "model-swapped":
                    raise
                if error.code != "no-model":
                    self._on_failure(error.code)
                lost += error.code in _LOST
                if lost == _ATTEMPTS:
                    return Answered(start, stop, None, error.code)
            self._pause(repeated)
            repeated += 1
