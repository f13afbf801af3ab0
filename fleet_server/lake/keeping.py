"""What keeps the lake in order between turns: small files merged, old ones let go, leftovers removed."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from fleet_server.domain import retention
from fleet_server.domain.retention import Kept
from fleet_server.lake import catalogue, merging
from fleet_server.lake.turn import Lake
from fleet_server.services.figures import CompactorFigures
from fleet_server.tables.database import reading, writing
from fleet_server.tables.lake import LakeFile
from fleet_server.tables.minutes import Minute

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""A file that does not count any more stays so long, for who has listed it before."""
_INTERVAL_S = 5.0


@dataclass(frozen=True)
class Retention:
    """How long inferences are kept, in days and in bytes of files; and the minutes that they came to. None: for ever."""

    days: int | None = None
    bytes: int | None = None
    minutes_days: int | None = None


class Keeper:
    def __init__(self, lake: Lake, wanted: Retention, now: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lake, self._retention, self._now, self._monotonic = lake, wanted, now, monotonic
        self._next = monotonic()

    def keep(self, figures: CompactorFigures) -> None:
        """Every few seconds, a little of all there is to do. Raises OSError or SQLAlchemyError."""
        if self._monotonic() < self._next:
            return
        figures.merges += merging.merge_once(self._lake, self._now())
        figures.expired += self._expire()
        self._remove()
        self._next = self._monotonic() + _INTERVAL_S

    def sweep(self) -> None:
        """Remove what interrupted turns left. Raises OSError or SQLAlchemyError."""
        with reading(self._lake.engine) as connection:
            known = connection.execute(select(LakeFile.path)).scalars().all()
        for path in catalogue.strays(self._lake.root, known):
            log.info("removing %s, which an interrupted turn left", path.name)
            path.unlink(missing_ok=True)

    def _expire(self) -> int:
        now = self._now()
        with reading(self._lake.engine) as connection:
            files = [Kept(row.id, row.day, row.bytes) for row in catalogue.listed(connection)]
        gone = retention.expired(files, now.date(), self._retention.days, self._retention.bytes)
        with writing(self._lake.engine) as connection:
            catalogue.drop(connection, gone, now)
            if self._retention.minutes_days is not None:
                oldest = now - timedelta(days=self._retention.minutes_days)
                connection.execute(Minute.__table__.delete().where(Minute.__table__.c.minute < int(oldest.timestamp()) // 60))
        if gone:
            days = {file.id: file.day for file in files}
            log.info("retention: %d files go, of %s to %s", len(gone), min(map(days.__getitem__, gone)), max(map(days.__getitem__, gone)))
        return len(gone)

    def _remove(self) -> None:
        """The files themselves: first, so that none is left that nobody knows."""
        old = select(LakeFile.id, LakeFile.path).where(LakeFile.gone_at < self._now() - timedelta(seconds=GRACE_S))
        with reading(self._lake.engine) as connection:
            gone = list(connection.execute(old))
        for row in gone:
            (self._lake.root / row.path).unlink(missing_ok=True)
        if gone:
            with writing(self._lake.engine) as connection:
                catalogue.forget(connection, [row.id for row in gone])
