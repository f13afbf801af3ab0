"""Who takes part, as the database says: a copy that is never asked for on the way of a message."""

import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine, select

from fleet_server.services import quarantine
from fleet_server.tables.database import reading
from fleet_server.tables.device import Device

_WHOLE_S = 30.0


class Roster:
    """`may` is asked by one thread, `renew` called by another, about each second."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody takes part before the first `renew`."""
        self._engine, self._clock = engine, clock
        self._known: frozenset[str] = frozenset()
        self._excluded: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self._strange = False

    def may(self, device: str) -> bool:
        if device in self._excluded:
            return False
        if device in self._known:
            return True
        self._strange = True
        return False

    def renew(self, now: datetime) -> None:
        """Whom to keep out; and all devices, when there may be a new one. Raises SQLAlchemyError."""
        self._excluded = quarantine.excluded(self._engine, now).devices
        now_s = self._clock()
        if self._read_at is None or self._strange or now_s - self._read_at > _WHOLE_S:
            self._strange = False
            with reading(self._engine) as connection:
                self._known = frozenset(connection.execute(select(Device.id)).scalars())
            self._read_at = now_s
