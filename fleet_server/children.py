"""Processes that work beside the server for as long as it runs: started, started again when they end, and taken along at the end."""

import logging
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from fleet_contract.backoff import Backoff
from fleet_server import lifeline

log = logging.getLogger(__name__)

DATABASE_VARIABLE = "EDGEFLEET_DATABASE_URL"
"""Where a child finds its database."""

_STOP_TIMEOUT_S = 15.0
_STEADY_S = 30.0
"""What ends sooner is a failed attempt."""
_POLL_S = 0.1


class Child:
    """One process at a time, restarted with back-off until `close`; it writes its log where the server does."""

    def __init__(
        self,
        name: str,
        program: Sequence[str],
        environment: Mapping[str, str] | None = None,
        backoff: Backoff = Backoff(first_s=0.2, longest_s=10.0),
    ) -> None:
        """`environment` is beside the server's own."""
        self.name, self._program, self._backoff = name, tuple(program), backoff
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen | None = None
        self._closing = threading.Event()
        # The child is told of the death of the thread that started it, so one thread lives as long as the child may.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """With SIGTERM, and what does not heed it with SIGKILL."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        run_again(self._run_once, self._closing, self._backoff, self.name)

    def _run_once(self) -> int | None:
        try:
            command = lifeline.command(os.getpid(), *self._program)
            process = self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self._environment)
        except OSError as error:
            log.error("cannot start %s: %s", self.name, error)
            return None
        while process.poll() is None and not self._closing.wait(_POLL_S):
            pass
        if process.poll() is None:
            stop(process, _STOP_TIMEOUT_S)
        return process.returncode


def run_again(run_once: Callable[[], int | None], closing: threading.Event, backoff: Backoff, name: str) -> None:
    """Whenever `run_once` returns, after a wait that grows while it returns soon; until `closing`. It tells how its process ended, None where there was
    none."""
    attempt = 0
    while not closing.is_set():
        began_s = time.monotonic()
        code = run_once()
        if closing.is_set():
            return
        attempt = 0 if time.monotonic() - began_s > _STEADY_S else attempt + 1
        wait_s = backoff.wait_s(attempt, random.random)
        log.warning("%s ended%s; starting it again in %.1f s", name, _how(code), wait_s)
        closing.wait(wait_s)


def _how(code: int | None) -> str:
    if code is None:
        return ""
    return f" by signal {-code}" if code < 0 else f" with exit code {code}"


def stop(process: subprocess.Popen, timeout_s: float) -> None:
    """With SIGTERM, and after `timeout_s` with SIGKILL."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
