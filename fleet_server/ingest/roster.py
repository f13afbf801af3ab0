"""Who takes part, as the database says: a copy that is never asked for on the way of a message."""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine, select

from fleet_server.services import quarantine
from fleet_server.tables.database import reading
from fleet_server.tables.device import Device

_WHOLE_S = 30.0


class Roster:
    """`may` is asked by one thread, `renew` called by another: about each second, and when `strange` is set."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody is known before the first `renew`."""
        self._engine, self._clock = engine, clock
        self._known: frozenset[str] = frozenset()
        self._excluded: frozenset[str] = frozenset()
        self._asked: set[str] = set()
        self._nobody: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self.strange = threading.Event()

    def may(self, device: str) -> bool | None:
        """None: ask again after the next `renew`, it may have been enrolled just now."""
        if device in self._excluded or device in self._nobody:
            return False
        if device in self._known:
            return True
        self._asked.add(device)
        self.strange.set()
        return None

    def renew(self, now: datetime) -> bool:
        """Whom to keep out; and all devices, when there may be a new one: whether somebody was asked for who was not known. Raises SQLAlchemyError."""
        self._excluded = quarantine.kept_out(self._engine, now)
        self.strange.clear()
        asked, self._asked = self._asked, set()
        if asked or self._read_at is None or self._clock() - self._read_at > _WHOLE_S:
            self._read_at = self._clock()
            with reading(self._engine) as connection:
                self._known = frozenset(connection.execute(select(Device.id)).scalars())
        self._nobody = frozenset(asked - self._known)
        return bool(asked)
