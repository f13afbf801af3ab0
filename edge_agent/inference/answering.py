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
    """Waits while there is no model; after the second lost worker, or a rejected answer, asks row by row, so that one bad input costs only itself.
    What a bundle on trial failed to answer goes to the bundle that takes its place."""

    def __init__(
        self, host: Host, pause: Callable[[int], None], on_failure: Callable[[str], None], appeal: Callable[[], None] = lambda: None
    ) -> None:
        """`pause(n)` waits before the n-th repetition in a row and may raise to give up; `on_failure` hears the code of every failure; `appeal`
        returns once a bundle on trial has been judged by its failures, at once if none is."""
        self._host = host
        self._pause = pause
        self._on_failure = on_failure
        self._appeal = appeal

    def answer(self, tensor: str, batch: np.ndarray) -> list[Answered]:
        """In row order, covering the batch. Raises Retry (model-swapped) when the batch no longer fits the active model, or what `pause` raises."""
        whole = self._ask(tensor, batch, 0)
        if whole.inference is not None or len(batch) == 1:
            return [whole]
        return [self._ask(tensor, batch[row : row + 1], row) for row in range(len(batch))]

    def _ask(self, tensor: str, rows: np.ndarray, start: int) -> Answered:
        stop = start + len(rows)
        lost = repeated = 0
        while True:
            asked = self._active()
            try:
                return Answered(start, stop, self._host.infer({tensor: rows}))
            except Reject as error:
                self._on_failure(error.code)
                if not self._is_replaced(asked):
                    return Answered(start, stop, None, f"answer-{error.code}")
                lost = 0
            except Retry as error:
                if error.code == "model-swapped":
                    raise
                if error.code != "no-model":
                    self._on_failure(error.code)
                if error.code in _LOST:
                    lost = 0 if self._is_replaced(asked) else lost + 1
                if lost == _ATTEMPTS:
                    return Answered(start, stop, None, error.code)
            self._pause(repeated)
            repeated += 1

    def _active(self) -> str | None:
        model = self._host.active()
        return None if model is None else model.sha256

    def _is_replaced(self, asked: str | None) -> bool:
        self._appeal()
        return self._active() != asked
