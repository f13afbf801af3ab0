"""What an ingest worker looks after each second, beside its loop: who takes part, how full the inbox is, who floods, and what it counts."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from fleet_server.domain.flood import Meter
from fleet_server.errors import NotFound
from fleet_server.inbox.port import Backlog, Inbox
from fleet_server.ingest import pace
from fleet_server.ingest.pace import Bounds
from fleet_server.ingest.roster import Roster
from fleet_server.services import figures, quarantine
from fleet_server.services.figures import IngestFigures

log = logging.getLogger(__name__)

_EVERY_S, _LEAST_S = 1.0, 0.05
_NOTHING = Backlog(0, 0, 0, None)


class Clerk:
    """`floods` and `wait_s` are asked from the worker's threads, and never wait for a database."""

    def __init__(self, name: str, engine: Engine, inbox: Inbox, bounds: Bounds, meter: Meter, now: Callable[[], datetime]) -> None:
        self.roster = Roster(engine)
        self._name, self._engine, self._inbox, self._bounds, self._meter, self._now = name, engine, inbox, bounds, meter, now
        self._backlog = _NOTHING
        self._flooding: set[str] = set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, counted: IngestFigures, on_renewed: Callable[[], None]) -> None:
        """Returns when it is known who takes part; `on_renewed` is called when somebody was asked for who was not. Raises SQLAlchemyError."""
        self._look()
        self._thread = threading.Thread(target=self._run, args=(counted, on_renewed), name="clerk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self.roster.strange.set()
        if self._thread:
            self._thread.join()

    def floods(self, device: str, size: int) -> bool:
        if self._meter.take(device, size=size, now_s=time.monotonic()):
            return False
        self._flooding.add(device)
        return True

    def wait_s(self) -> float | None:
        return pace.wait_s(self._backlog, self._bounds, time.time_ns() // 1_000)

    def _run(self, counted: IngestFigures, on_renewed: Callable[[], None]) -> None:
        while not self._closing.wait(_LEAST_S):
            strange = self.roster.strange.wait(_EVERY_S - _LEAST_S)
            if self._closing.is_set():
                return
            try:
                self._throttle()
                if self._look() or strange:
                    on_renewed()
                figures.publish(self._engine, self._name, counted, self._now())
            except Exception as error:  # noqa: BLE001 - without this loop nobody new is let in, and nobody kept out
                log.warning("the database does not answer: %s", type(error).__name__)

    def _look(self) -> bool:
        """Whether somebody was asked for who was not known."""
        asked = self.roster.renew(self._now())
        self._backlog = self._inbox.backlog()
        return asked

    def _throttle(self) -> None:
        while self._flooding:
            device = self._flooding.pop()
            try:
                quarantine.throttle(self._engine, device, self._now())
            except NotFound:
                log.debug("%s is deleted", device)
            self._meter.pardon(device)
