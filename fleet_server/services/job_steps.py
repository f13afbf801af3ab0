"""The control loop's hand on jobs: one at a time from queued over running to a proposed rollout."""

from datetime import datetime
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Row, select, update

from fleet_contract.errors import ContractError
from fleet_contract.job import JobResult, Progress
from fleet_server.domain import retraining
from fleet_server.domain.retraining import JobState
from fleet_server.errors import Conflict, ServerError
from fleet_server.fleet import Fleet
from fleet_server.ports import JobLook
from fleet_server.services import audit, bundles, findings, job_folders, rollouts
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.database import reading, writing
from fleet_server.tables.job import Job


def advance(fleet: Fleet, now: datetime) -> int:
    """Look after the running job, or start the oldest queued one; returns how many changed their state."""
    with reading(fleet.engine) as connection:
        unended = select(Job).where(Job.state.in_(findings.UNENDED)).order_by(Job.id)
        jobs = list(connection.execute(unended))
    running = next((job for job in jobs if job.state == JobState.RUNNING), None)
    if running is not None:
        return _watch(fleet, running, now)
    return _start(fleet, jobs[0], now) if jobs else 0


def _start(fleet: Fleet, job: Row, now: datetime) -> int:
    attempt = {"attempts": job.attempts + 1, "started_at": now}
    try:
        folder = job_folders.prepare(fleet, job)
        fleet.runner.start(folder, now)
    except (ServerError, ContractError, OSError) as error:
        _change(fleet, job, JobState.FAILED, now, reason=f"could not be started: {error}", ended_at=now, **attempt)
        return 1
    _change(fleet, job, JobState.RUNNING, now, reason="", **attempt)
    return 1


def _watch(fleet: Fleet, job: Row, now: datetime) -> int:
    folder = job_folders.path(fleet, job.id)
    look = fleet.runner.look(folder, now)
    if look.running:
        _progress(fleet, job, look.progress)
        return 0
    if look.result is None:
        return _retry(fleet, job, look, now)
    if not look.result.accepted:
        _end(fleet, job, look.result, JobState.REFUSED, now)
        return 1
    return _publish(fleet, job, folder, look.result, now)


def _publish(fleet: Fleet, job: Row, folder: Path, result: JobResult, now: datetime) -> int:
    try:
        sha256 = _published_before(fleet, job) or _publish_bundle(fleet, job, folder, result, now)
    except Conflict as error:
        # Somebody else published while the job ran: its metadata is no longer the next version.
        return _retry(fleet, job, JobLook(False, failure=str(error)), now)
    except (ServerError, ContractError, OSError) as error:
        _change(fleet, job, JobState.FAILED, now, reason=f"its bundle could not be published: {error}", ended_at=now)
        return 1
    _end(fleet, job, result, JobState.ACCEPTED, now, sha256)
    return 1


def _published_before(fleet: Fleet, job: Row) -> str | None:
    """The job's bundle, when an earlier run of the server got as far as publishing it."""
    with reading(fleet.engine) as connection:
        return connection.execute(select(Bundle.sha256).where(Bundle.job == job.id)).scalar_one_or_none()


def _publish_bundle(fleet: Fleet, job: Row, folder: Path, result: JobResult, now: datetime) -> str:
    archive = job_folders.inside(folder, result.bundle, "bundle")
    releases = job_folders.inside(folder, result.releases, "releases")
    deltas = [job_folders.inside(folder, name, "deltas") for name in result.deltas or ()]
    return bundles.publish(fleet, archive, releases.read_bytes(), deltas=deltas, by=audit.SERVER, now=now, job=job.id).sha256


def _end(fleet: Fleet, job: Row, result: JobResult, state: JobState, now: datetime, bundle: str | None = None) -> None:
    with writing(fleet.engine) as connection:
        rollout = _propose(connection, job, bundle, now) if bundle else None
        gates = [msgspec.to_builtins(gate) for gate in result.gates]
        end = {"gates": gates, "metrics": _finite(result.metrics), "bundle": bundle, "rollout": rollout, "share": 1.0, "ended_at": now}
        _set(connection, job, state, now, reason=result.reason, **end)


def _propose(connection: Connection, job: Row, bundle: str, now: datetime) -> int:
    """The canaries are the devices that drifted under the champion: they need it most, and show most."""
    drifted = tuple(sorted({row.device for row in findings.open_on(connection, job.champion)}))
    plan = rollouts.Plan(bundle, canaries=drifted, approved=False, finding=job.finding)
    return rollouts.open_rollout(connection, plan, by=audit.SERVER, now=now)


def _retry(fleet: Fleet, job: Row, look: JobLook, now: datetime) -> int:
    reason = look.failure or "its process is gone and left no result"
    if job.attempts < retraining.MAX_ATTEMPTS:
        _change(fleet, job, JobState.QUEUED, now, reason=f"to be tried again: {reason}")
    else:
        _change(fleet, job, JobState.FAILED, now, reason=reason, ended_at=now)
    return 1


def _progress(fleet: Fleet, job: Row, progress: Progress | None) -> None:
    if progress is not None and (progress.stage, progress.share) != (job.stage, job.share):
        with writing(fleet.engine) as connection:
            connection.execute(update(Job).where(Job.id == job.id).values(stage=progress.stage, share=progress.share))


def _change(fleet: Fleet, job: Row, state: JobState, now: datetime, **values: object) -> None:
    with writing(fleet.engine) as connection:
        _set(connection, job, state, now, **values)


def _set(connection: Connection, job: Row, state: JobState, now: datetime, **values: object) -> None:
    connection.execute(update(Job).where(Job.id == job.id).values(state=state.value, **values))
    detail = {"from": job.state, "to": state.value, "reason": str(values.get("reason", ""))}
    audit.append(connection, audit.SERVER, "job.advance", f"job:{job.id}", detail, now)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """JSON knows no NaN."""
    return {name: value for name, value in metrics.items() if value == value and abs(value) != float("inf")}
