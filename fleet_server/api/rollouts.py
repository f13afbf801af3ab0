"""Rollouts: propose, approve, stop, watch."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import Field

from fleet_contract import limits
from fleet_server.api.deps import InFleet, Operator, Paged, Viewer, following
from fleet_server.api.schema import Answer, Body, Number, Page, Word
from fleet_server.services import rollout_steps, rollouts

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


class RolloutRequest(Body):
    """`devices` null is every device of the bundle's task, those enrolled later too. `approved` false only proposes. `shadow` true runs the bundle beside
    what the devices run now, compares, and never answers with it; devices that are enrolled later take no part."""

    bundle: Word
    devices: list[Word] | None = Field(default=None, min_length=1, max_length=limits.MAX_PAGE_ROWS)
    approved: bool = True
    shadow: bool = False


class Compared(Answer):
    """What a device told of a shadow: `inputs` that both bundles answered, `agreed` of them with the same label, and the inputs that it `missed`."""

    inputs: int
    agreed: int
    agreement: float | None
    missed: int
    latency_us: float
    candidate_latency_us: float


class Rollout(Answer):
    """`state` is proposed, canary, wave, shadow, done or stopped; a device's is pending, ordered, active, compared or failed. `compared` is a shadow's,
    by device."""

    id: int
    bundle: str
    task: str
    state: str
    everyone: bool
    shadow: bool
    canaries: list[str]
    devices: dict[str, str]
    finding: int | None
    reason: str
    created_by: str
    created_at: datetime
    ended_at: datetime | None
    compared: dict[str, Compared]


@router.post(
    "", status_code=201, summary="Roll a bundle out: canaries first, the rest when their gate passes; or beside what runs, as a shadow"
)
def create_rollout(body: RolloutRequest, fleet: InFleet, who: Operator) -> Rollout:
    devices = None if body.devices is None else tuple(body.devices)
    plan = rollouts.Plan(body.bundle, devices=devices, approved=body.approved, shadow=body.shadow)
    made = rollouts.create(fleet.engine, plan, by=who.id, now=fleet.now())
    fleet.wake()
    return made


@router.get("", summary="List rollouts, oldest first")
def list_rollouts(fleet: InFleet, _who: Viewer, paged: Paged) -> Page[Rollout]:
    rows = rollouts.page(fleet.engine, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


@router.get("/{rollout}", summary="Show one rollout")
def show_rollout(rollout: Number, fleet: InFleet, _who: Viewer) -> Rollout:
    return rollouts.get(fleet.engine, rollout)


@router.post("/{rollout}/approve", summary="Let a proposed rollout start")
def approve_rollout(rollout: Number, fleet: InFleet, who: Operator) -> Rollout:
    made = rollouts.approve(fleet.engine, rollout, by=who.id, now=fleet.now())
    fleet.wake()
    return made


@router.post("/{rollout}/stop", summary="Stop a rollout and send its devices back to what they ran before")
def stop_rollout(rollout: Number, fleet: InFleet, who: Operator) -> Rollout:
    rollout_steps.stop(fleet.engine, rollout, by=who.id, now=fleet.now())
    fleet.wake()
    return rollouts.get(fleet.engine, rollout)
