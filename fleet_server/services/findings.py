"""Drift findings on their way from an order to sample, over labels and a job, to a rollout that ends them."""

from datetime import datetime

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from fleet_contract.messages import Lane
from fleet_server.domain import retraining
from fleet_server.domain.retraining import Campaign, FindingState, JobState
from fleet_server.domain.rollout import RolloutState
from fleet_server.services import audit, bundles, rollouts
from fleet_server.services.orders import campaign_id
from fleet_server.tables.database import read_page, reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event
from fleet_server.tables.finding import Finding
from fleet_server.tables.job import Job
from fleet_server.tables.order import IssuedOrder
from fleet_server.tables.rollout import Rollout
from fleet_server.tables.sample import Label, Sample
from fleet_server.tables.stream import Stream

SAMPLING_DONE = "sampling.done"
UNENDED = (JobState.QUEUED.value, JobState.RUNNING.value)


def advance(engine: Engine, now: datetime) -> int:
    """Move every finding that is not closed on by what is known now; returns how many changed their state."""
    with reading(engine) as connection:
        ids = connection.execute(select(Finding.id).where(Finding.state != FindingState.CLOSED.value).order_by(Finding.id)).scalars().all()
    return sum(_advance_one(engine, finding, now) for finding in ids)


def page(engine: Engine, *, device: str | None, state: str | None, after: int, limit: int) -> list[Row]:
    return read_page(engine, select(Finding), Finding.id, after=after, limit=limit, equal={Finding.device: device, Finding.state: state})


def open_on(connection: Connection, bundle: str) -> list[Row]:
    """The findings on one bundle that are not closed."""
    wanted = select(Finding).where(Finding.bundle == bundle, Finding.state != FindingState.CLOSED.value)
    return list(connection.execute(wanted.order_by(Finding.id)))


def campaign_of(connection: Connection, finding: Row) -> Campaign:
    campaign = campaign_id(finding.id)
    mine = (Sample.device == finding.device, Sample.campaign == campaign)
    received = connection.execute(select(func.count()).select_from(Sample).where(*mine)).scalar_one()
    labelled = select(func.count()).select_from(Sample).join(Label, Label.sample == Sample.id).where(*mine)
    done = _sampling_done(connection, finding.device, campaign)
    return Campaign(
        received=received,
        labelled=connection.execute(labelled).scalar_one(),
        announced=None if done is None else int(done.detail.get("items", 0)),
        lane_empty=done is not None and _lane_empty(connection, done),
    )


def _advance_one(engine: Engine, finding: int, now: datetime) -> int:
    with writing(engine) as connection:
        row = connection.execute(select(Finding).where(Finding.id == finding)).one_or_none()
        if row is None:  # its device was deleted meanwhile
            return 0
        device = connection.execute(select(Device).where(Device.id == row.device)).one()
        if _is_superseded(connection, row, device):
            return _move(connection, row, FindingState.CLOSED, "the device runs another bundle, by a finished rollout", now)
        return _STEPS[FindingState(row.state)](connection, row, now)


def _is_superseded(connection: Connection, finding: Row, device: Row) -> bool:
    if device.desired_bundle == finding.bundle or device.desired_rollout is None:
        return False
    state = connection.execute(select(Rollout.state).where(Rollout.id == device.desired_rollout)).scalar_one_or_none()
    return state == RolloutState.DONE


def _await_order(connection: Connection, finding: Row, now: datetime) -> int:
    ordered = select(IssuedOrder.counter).where(IssuedOrder.device == finding.device, IssuedOrder.campaign == campaign_id(finding.id))
    if connection.execute(ordered.limit(1)).first() is None:
        return 0
    return _move(connection, finding, FindingState.SAMPLING, "the device was asked for samples", now)


def _await_samples(connection: Connection, finding: Row, now: datetime) -> int:
    campaign = campaign_of(connection, finding)
    if not retraining.is_complete(campaign, bundles.policy_of(connection, finding.bundle).sampling):
        return 0
    return _move(connection, finding, FindingState.LABELLING, f"{campaign.received} samples are in", now)


def _await_labels(connection: Connection, finding: Row, now: datetime) -> int:
    if job_under_way(connection, finding.task) is not None or any(r.task == finding.task for r in rollouts.live(connection)):
        return 0
    campaign = campaign_of(connection, finding)
    before = connection.execute(select(func.max(Job.labels)).where(Job.finding == finding.id)).scalar_one() or 0
    policy = bundles.policy_of(connection, finding.bundle)
    complete = retraining.is_complete(campaign, policy.sampling)
    if not complete or not retraining.may_start(campaign, policy.retrain, before):
        return 0
    queue_job(connection, finding.task, finding.bundle, finding, campaign.labelled, by=audit.SERVER, now=now)
    return 1


def _await_job(connection: Connection, finding: Row, now: datetime) -> int:
    """A job that came to nothing, or whose rollout was stopped, sends its finding back for more labels."""
    job = connection.execute(select(Job).where(Job.finding == finding.id).order_by(Job.id.desc()).limit(1)).one_or_none()
    if job is None or job.state in UNENDED:
        return 0
    if job.state != JobState.ACCEPTED:
        return _move(connection, finding, FindingState.LABELLING, f"job {job.id} {job.state}: {job.reason}", now)
    made = None if job.rollout is None else rollouts.find(connection, job.rollout)
    if made is not None and made.state == RolloutState.STOPPED:
        return _move(connection, finding, FindingState.LABELLING, f"rollout {made.id} stopped: {made.reason}", now)
    return 0


def job_under_way(connection: Connection, task: str) -> int | None:
    return connection.execute(select(Job.id).where(Job.task == task, Job.state.in_(UNENDED))).scalars().first()


def queue_job(connection: Connection, task: str, champion: str, finding: Row | None, labels: int, *, by: str, now: datetime) -> int:
    """Queue a job, and move the finding it is for to retraining; returns the job's id."""
    row = {"task": task, "champion": champion, "finding": finding.id if finding else None, "labels": labels, "created_by": by}
    start = {"state": JobState.QUEUED.value, "stage": "", "share": 0.0, "reason": "", "attempts": 0, "gates": [], "metrics": {}}
    made = connection.execute(insert(Job).values(**row, **start, created_at=now)).inserted_primary_key[0]
    audit.append(connection, by, "job.create", f"job:{made}", {"task": task, "finding": row["finding"], "labels": labels}, now)
    if finding is not None:
        _move(connection, finding, FindingState.RETRAINING, f"job {made}", now)
    return made


def _move(connection: Connection, finding: Row, state: FindingState, reason: str, now: datetime) -> int:
    closed = {"closed_at": now} if state is FindingState.CLOSED else {}
    connection.execute(update(Finding).where(Finding.id == finding.id).values(state=state.value, reason=reason, **closed))
    detail = {"from": finding.state, "to": state.value, "reason": reason}
    audit.append(connection, audit.SERVER, "drift.advance", f"finding:{finding.id}", detail, now)
    return 1


def _sampling_done(connection: Connection, device: str, campaign: str) -> Row | None:
    told = select(Event).where(Event.device == device, Event.kind == SAMPLING_DONE).order_by(Event.id.desc())
    return next((event for event in connection.execute(told) if event.detail.get("campaign") == campaign), None)


def _lane_empty(connection: Connection, done: Row) -> bool:
    """Has the device reported, since it finished sampling, that its samples lane holds nothing more?"""
    epoch = select(Stream.epoch).where(Stream.id == done.stream).scalar_subquery()
    lane = (Stream.device == done.device, Stream.epoch == epoch, Stream.lane == Lane.SAMPLES.value)
    row = connection.execute(select(Stream.queued, Stream.reported_at).where(*lane)).one_or_none()
    return row is not None and row.queued == 0 and row.reported_at is not None and row.reported_at > done.received_at


_STEPS = {
    FindingState.OPEN: _await_order,
    FindingState.SAMPLING: _await_samples,
    FindingState.LABELLING: _await_labels,
    FindingState.RETRAINING: _await_job,
}
