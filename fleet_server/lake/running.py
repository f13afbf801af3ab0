"""Composition root of the compactor."""

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fleet_contract import garbage
from fleet_contract.signals import Signals
from fleet_server.errors import Conflict
from fleet_server.inbox import sql
from fleet_server.lake import compactor
from fleet_server.lake.compactor import Compactor
from fleet_server.lake.keeping import Keeper, Retention
from fleet_server.lake.turn import Lake
from fleet_server.tables import database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    home: Path
    database_url: str
    retention: Retention = field(default_factory=Retention)


def serve(job: Job) -> None:
    """Run until SIGTERM or SIGINT, in the main thread. Raises Conflict for a database of another version or where another compactor runs."""
    stop = threading.Event()
    Signals().pass_to(stop.set)
    with ExitStack() as stack:
        ready = assemble(job, stack)
        garbage.look_rarely()
        ready.run(stop)
    log.info("the compactor stopped")


def assemble(job: Job, stack: ExitStack) -> Compactor:
    """A compactor that has only to run; `stack` ends what is beside it."""
    root = job.home / "lake"
    stack.enter_context(compactor.claimed(root))
    engine = database.connect(job.database_url)
    stack.callback(engine.dispose)
    if not database.is_current(engine):
        raise Conflict("the database is of another version: run `fleet-server migrate` first", field="database_url")
    inbox = sql.open_beside(engine, job.home)
    stack.callback(inbox.engine.dispose)
    lake = Lake(job.home, engine)
    return Compactor(lake, inbox, Keeper(lake, job.retention, _now), _now)


def _now() -> datetime:
    return datetime.now(UTC)
