"""The thread that turns the executor: at once when something came, slowly otherwise, ever more slowly while the world is not ready."""

import logging
import random
import threading
from collections.abc import Callable

from edge_agent.errors import AgentError
from edge_agent.update.executor import Executor
from fleet_contract.mqtt import Backoff

log = logging.getLogger(__name__)

_TICK_S = 0.5


class UpdateLoop:
    def __init__(
        self, executor: Executor, *, backoff: Backoff = Backoff(longest_s=30.0), uniform: Callable[[], float] = random.random
    ) -> None:
        self._executor, self._backoff, self._uniform = executor, backoff, uniform
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._trouble: str | None = None
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

    def close(self, timeout_s: float = 10.0) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                again = self._executor.turn()
                failures, self._trouble = 0, None
                wait_s = 0.0 if again else _TICK_S
            except AgentError as error:
                wait_s, failures = self._hold(failures, f"{error.code}: {error}")
            except Exception as error:  # an update must never end the device's work
                log.exception("an update step failed")
                wait_s, failures = self._hold(failures, f"internal: {type(error).__name__}")
            self._wake.wait(wait_s)
            self._wake.clear()

    def _hold(self, failures: int, why: str) -> tuple[float, int]:
        self._trouble = why
        wait_s = self._backoff.wait_s(failures, self._uniform)
        log.info("update: %s; again in %.1f s", why, wait_s)
        return wait_s, failures + 1
