"""Drift: findings, and the windows they came from."""

from datetime import datetime

from fastapi import APIRouter

from fleet_server.api.deps import InFleet, Paged, Viewer, following
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import findings, windows

router = APIRouter(prefix="/drift", tags=["drift"])


class Finding(Answer):
    """`effect` is the Kolmogorov-Smirnov distance of the worst feature from the closest known condition, `p_value` a bound on its chance
    in a healthy window. `state` is open, sampling, labelling, retraining or closed."""

    id: int
    device: str
    bundle: str
    task: str
    feature: str
    effect: float
    p_value: float
    window: int
    inputs_at_detection: int
    detected_at: datetime
    state: str
    reason: str
    closed_at: datetime | None


class FeatureTest(Answer):
    feature: str
    effect: float
    p_value: float
    deviates: bool


class Window(Answer):
    """`verdict` is healthy, drifted, unreadable, or null while it is not judged; `features` are those that deviate most."""

    id: int
    device: str
    bundle: str
    start: datetime
    end: datetime
    first_input: int
    inputs: int
    verdict: str | None
    position: int | None
    streak: int
    closest: str | None
    level: float | None
    features: list[FeatureTest]


@router.get("", summary="List drift findings")
def list_findings(fleet: InFleet, _who: Viewer, paged: Paged, device: Word | None = None, state: Word | None = None) -> Page[Finding]:
    rows = findings.page(fleet.engine, device=device, state=state, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


@router.get("/windows", summary="List judged windows with their statistics")
def list_windows(fleet: InFleet, _who: Viewer, paged: Paged, device: Word | None = None) -> Page[Window]:
    rows = windows.page(fleet.engine, device=device, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))
