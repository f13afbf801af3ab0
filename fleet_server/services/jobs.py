"""Retraining jobs as people see and start them."""

from datetime import datetime

from sqlalchemy import Connection, Row, select

from fleet_server.domain.retraining import FindingState
from fleet_server.domain.rollout import RolloutState
from fleet_server.errors import BadRequest, Conflict, NotFound, Unavailable
from fleet_server.fleet import Fleet
from fleet_server.services import findings, samples
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.database import reading, writing
from fleet_server.tables.finding import Finding
from fleet_server.tables.job import Job
from fleet_server.tables.rollout import Rollout


def create(fleet: Fleet, task: str, *, by: str, now: datetime) -> Row:
    """A person starts a job, with whatever labels there are.

    Raises BadRequest (a task without a task file), NotFound (no bundle to challenge), Conflict (a job is under way), Unavailable (no releases key).
    """
    if task not in fleet.tasks:
        raise BadRequest(f"the server knows no task file for {task!r}; it knows {', '.join(sorted(fleet.tasks)) or 'none'}", field="task")
    if fleet.releases_key is None:
        raise Unavailable("the server has no releases key, so it could not sign a challenger: start it with --releases-key")
    with writing(fleet.engine) as connection:
        running = findings.job_under_way(connection, task)
        if running is not None:
            raise Conflict(f"job {running} of task {task!r} is under way", field="task", limit=running)
        champion = _champion(connection, task)
        unclosed = select(Finding).where(Finding.bundle == champion, Finding.state != FindingState.CLOSED.value)
        finding = connection.execute(unclosed.order_by(Finding.id.desc()).limit(1)).one_or_none()
        labels = len(samples.labelled_for(connection, task))
        made = findings.queue_job(connection, task, champion, finding, labels, by=by, now=now)
    fleet.wake()
    return get(fleet, made)


def get(fleet: Fleet, job: int) -> Row:
    """Raises NotFound."""
    with reading(fleet.engine) as connection:
        row = connection.execute(select(Job).where(Job.id == job)).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job}", field="job")
    return row


def page(fleet: Fleet, *, after: int, limit: int) -> list[Row]:
    with reading(fleet.engine) as connection:
        return list(connection.execute(select(Job).where(Job.id > after).order_by(Job.id).limit(limit)))


def _champion(connection: Connection, task: str) -> str:
    """What the task runs: the bundle of its newest finished rollout, or the newest published when there is none."""
    done = select(Rollout.bundle).where(Rollout.task == task, Rollout.state == RolloutState.DONE.value, Rollout.shadow.is_(False))
    done = done.order_by(Rollout.id.desc())
    newest = select(Bundle.sha256).where(Bundle.task == task).order_by(Bundle.id.desc())
    found = connection.execute(done.limit(1)).scalar_one_or_none() or connection.execute(newest.limit(1)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"task {task!r} has no bundle yet: build and publish the first one by hand", field="task")
    return found
