"""The thread that turns the executor: at once when something came, slowly otherwise, ever more slowly while the world is not ready."""

import logging
import random
import threading
from collections.abc import Callable

from edge_agent.errors import AgentError
from edge_agent.update.executor import Executor
from edge_agent.update.phases import Phase
from fleet_contract.backoff import Backoff

log = logging.getLogger(__name__)

_TICK_S = 0.5
_IDLE_TICK_S = 2.0
"""What a person beside the device waits for at most who asks for a rollback; orders and appeals wake the loop."""
_JUDGEMENT_S = 60.0
"""What a verdict takes at most: a worker that hangs meets its deadline, and the bundle before it comes up."""


class UpdateLoop:
    def __init__(
        self, executor: Executor, *, backoff: Backoff = Backoff(longest_s=30.0), uniform: Callable[[], float] = random.random
    ) -> None:
        self._executor, self._backoff, self._uniform = executor, backoff, uniform
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._trouble: str | None = None
        self._turned = threading.Condition()
        self._begun = self._done = 0
        self._thread = threading.Thread(target=self._run, name="update", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why the last step could not be done yet; None when it could."""
        return self._trouble

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something came: do not wait any longer. From any thread."""
        self._wake.set()

    def appeal(self) -> None:
        """For whoever got no answer from a bundle on trial: return once that has been judged, and undone if it comes to that. From any other thread."""
        if not self._executor.on_trial:
            return
        judged = self._begun + 1
        self._wake.set()
        with self._turned:
            self._turned.wait_for(lambda: self._stop.is_set() or self._has_judged(judged), _JUDGEMENT_S)

    def close(self, timeout_s: float = 10.0) -> None:
        self._stop.set()
        self._executor.close()
        self._wake.set()
        with self._turned:
            self._turned.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            self._begun += 1
            try:
                again = self._executor.turn()
                failures, self._trouble = 0, None
                wait_s = 0.0 if again else self._pause_s()
            except AgentError as error:
                wait_s, failures = self._hold(failures, f"{error.code}: {error}")
            except Exception as error:  # an update must never end the device's work
                log.exception("an update step failed")
                wait_s, failures = self._hold(failures, f"internal: {type(error).__name__}")
            with self._turned:
                self._done = self._begun
                self._turned.notify_all()
            self._wake.wait(wait_s)
            self._wake.clear()

    def _pause_s(self) -> float:
        return _IDLE_TICK_S if self._executor.state.phase is Phase.IDLE else _TICK_S

    def _has_judged(self, turn: int) -> bool:
        settled = self._executor.state.phase is Phase.PROBATION or not self._executor.on_trial
        return self._done >= turn and settled

    def _hold(self, failures: int, why: str) -> tuple[float, int]:
        self._trouble = why
        wait_s = self._backoff.wait_s(failures, self._uniform)
        log.info("update: %s; again in %.1f s", why, wait_s)
        return wait_s, failures + 1
