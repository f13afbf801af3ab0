"""Every input of a batch gets an answer or a reason, whatever happens to the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import Reject, Retry
from edge_agent.inference.stream_state import StreamState
from edge_agent.ports import Inference, Inferring

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
    A model with states is asked row by row, each with what the last one left. What a bundle on trial failed to answer goes to the bundle that
    takes its place."""

    def __init__(
        self, host: Inferring, pause: Callable[[int], None], on_failure: Callable[[str], None], appeal: Callable[[], None] = lambda: None
    ) -> None:
        """`pause(n)` waits before the n-th repetition in a row and may raise to give up; `on_failure` hears the code of every failure; `appeal`
        returns once a bundle on trial has been judged by its failures, at once if none is."""
        self._host = host
        self._pause = pause
        self._on_failure = on_failure
        self._appeal = appeal
        self._state = StreamState()

    def answer(self, tensor: str, batch: np.ndarray, begins: Sequence[bool] = ()) -> list[Answered]:
        """In row order, covering the batch; `begins` marks rows that do not follow the one before. Raises Retry (model-swapped) when the batch no
        longer fits the active model, or what `pause` raises."""
        if self._remembers():
            return list(self._steps(tensor, batch, begins))
        whole = self._ask(tensor, batch, 0)
        if whole.inference is not None or len(batch) == 1:
            return [whole]
        return [self._ask(tensor, batch[row : row + 1], row) for row in range(len(batch))]

    def _remembers(self) -> bool:
        model = self._host.active()
        return model is not None and bool(model.manifest.states)

    def _steps(self, tensor: str, batch: np.ndarray, begins: Sequence[bool]) -> Iterator[Answered]:
        for row in range(len(batch)):
            if any(begins[row : row + 1]):
                self._state.forget()
            step = self._ask(tensor, batch[row : row + 1], row)
            self._state.keep(step.inference)
            yield step

    def _ask(self, tensor: str, rows: np.ndarray, start: int) -> Answered:
        stop = start + len(rows)
        lost = repeated = 0
        while True:
            asked = self._active()
            try:
                return Answered(start, stop, self._infer(tensor, rows, asked))
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

    def _infer(self, tensor: str, rows: np.ndarray, asked: str | None) -> Inference:
        """Never with what another model remembers, even when it took the other's place meanwhile."""
        remembered = self._state.of(asked)
        inference = self._host.infer({tensor: rows, **remembered})
        if inference.sha256 == asked or not (remembered or inference.manifest.states):
            return inference
        if len(rows) > 1:
            raise Retry("the model that took over wants its rows one by one", code="model-swapped")
        return self._infer(tensor, rows, inference.sha256)

    def _active(self) -> str | None:
        model = self._host.active()
        return None if model is None else model.sha256

    def _is_replaced(self, asked: str | None) -> bool:
        self._appeal()
        return self._active() != asked
