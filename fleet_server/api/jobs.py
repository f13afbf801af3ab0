"""Retraining jobs."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from fleet_server.api.deps import InFleet, Operator, Paged, Viewer, following
from fleet_server.api.schema import Answer, Body, Number, Page, Word
from fleet_server.services import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobRequest(Body):
    task: Word


class Job(Answer):
    """`state` is queued, running, accepted, refused (by its gates) or failed; `stage` and `share` (0..1) are its progress."""

    id: int
    task: str
    champion: str
    finding: int | None
    state: str
    stage: str
    share: float
    reason: str
    attempts: int
    labels: int
    gates: list[dict[str, Any]]
    metrics: dict[str, float]
    bundle: str | None
    rollout: int | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@router.get("", summary="List jobs, oldest first")
def list_jobs(fleet: InFleet, _who: Viewer, paged: Paged) -> Page[Job]:
    rows = jobs.page(fleet, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


@router.get("/{job}", summary="Show one job")
def show_job(job: Number, fleet: InFleet, _who: Viewer) -> Job:
    return jobs.get(fleet, job)


@router.post("", status_code=201, summary="Retrain a task now, with the labels there are")
def create_job(body: JobRequest, fleet: InFleet, who: Operator) -> Job:
    return jobs.create(fleet, body.task, by=who.id, now=fleet.now())
