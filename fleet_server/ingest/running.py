"""Composition root of an ingest worker."""

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fleet_contract import garbage
from fleet_contract.broker import Tls, parse_url
from fleet_contract.mqtt_packets import Level
from fleet_contract.signals import Signals
from fleet_server import running
from fleet_server.domain.flood import Meter, Rules
from fleet_server.errors import Conflict
from fleet_server.inbox import sql
from fleet_server.ingest import line
from fleet_server.ingest.clerk import Clerk
from fleet_server.ingest.committer import Committer
from fleet_server.ingest.intake import Intake
from fleet_server.ingest.line import Line
from fleet_server.ingest.pace import Bounds
from fleet_server.ingest.worker import Worker
from fleet_server.tables import database
from fleet_server.trust.device_ca import WORKER_IDENTITIES

log = logging.getLogger(__name__)

_DIAL_TIMEOUT_S = 10.0
_CREDIT = 4_096
"""Messages on their way: what comes during a few commits, at the highest rate that one worker takes."""


@dataclass(frozen=True)
class Job:
    """One of `workers` on the fleet's `broker_url`, by its number from 1. `home` holds ca/ with its certificate (fleet_server.trust.device_ca)."""

    home: Path
    number: int
    broker_url: str
    database_url: str
    workers: int = 1
    bounds: Bounds = field(default_factory=Bounds)
    flood: Rules = field(default_factory=Rules)

    @property
    def name(self) -> str:
        return WORKER_IDENTITIES[self.number - 1]

    @property
    def identity(self) -> Tls:
        ca = self.home / "ca"
        return Tls(ca / "ca.pem", ca / f"{self.name}.pem", ca / f"{self.name}.key")


def serve(job: Job) -> None:
    """Run until SIGTERM or SIGINT, in the main thread. Raises BadIdentity, BadUrl, SQLAlchemyError, and Conflict for a database of another version."""
    signals = Signals()
    with ExitStack() as stack:
        worker = assemble(job, stack)
        signals.pass_to(worker.stop)
        garbage.look_rarely()
        worker.run()
    log.info("%s stopped", job.name)


def assemble(job: Job, stack: ExitStack) -> Worker:
    """A worker that has only to run; `stack` ends what is beside it."""
    host, port = parse_url(job.broker_url)
    job.identity.context()  # so that a file that is missing is told now
    engine = database.connect(job.database_url)
    stack.callback(engine.dispose)
    if not database.is_current(engine):
        raise Conflict("the database is of another version: run `fleet-server migrate` first", field="database_url")
    inbox = sql.open_beside(engine, job.home)
    stack.callback(inbox.engine.dispose)
    clerk = Clerk(job.name, engine, inbox, job.bounds, Meter(job.flood.share(job.workers)), lambda: datetime.now(UTC))

    def dial(level: Level) -> Line:
        return line.dial(host, port, job.identity.context(), job.name, level, credit=_CREDIT, timeout_s=_DIAL_TIMEOUT_S)

    worker: Worker
    lock = threading.Lock()

    def let_go(reason: str, why: object) -> None:
        with lock:
            counted = worker.figures.refused
            counted[reason] = counted.get(reason, 0) + 1
        if counted[reason] == 1:
            log.warning("%s: %s (further ones are only counted)", reason, why)

    def slowed(seconds: float) -> None:
        worker.figures.slowed_s += seconds

    intake = Intake(clerk.roster.may, clerk.floods, let_go)
    worker = Worker(
        dial, intake, lambda wake: Committer(inbox, clerk.wait_s, wake, slowed), lambda: running.mark_connected(job.home, job.name)
    )
    clerk.start(worker.figures, worker.look_again)
    stack.callback(clerk.close)
    return worker
