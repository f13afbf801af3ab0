"""What devices recorded: inferences, their counts, and events."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from fleet_server.api.deps import InFleet, Paged, Viewer, following
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import telemetry

router = APIRouter(tags=["telemetry"])


class Result(Answer):
    """`detail` is a ranking of classes, the value of each target, or boxes, as its `type` says; None where label and value say all.
    `abstained`: the model was not sure enough, and `label` is its fallback."""

    device: str
    epoch: str
    seq: int
    at: datetime
    bundle: str
    input_id: str
    label: str | None
    value: float
    latency_us: int
    abstained: bool
    detail: dict[str, Any] | None


class Tally(Answer):
    """`label` is "" where the model gave none."""

    device: str
    bundle: str
    label: str
    count: int


class LaneBytes(Answer):
    device: str
    lane: str
    records: int
    bytes: int


class Summary(Answer):
    counts: list[Tally]
    stored: list[LaneBytes]


class Event(Answer):
    id: int
    device: str
    at: datetime
    received_at: datetime
    kind: str
    detail: dict[str, Any]


@router.get("/telemetry", summary="List inferences in the order they were stored")
def list_results(
    fleet: InFleet, _who: Viewer, paged: Paged, device: Word | None = None, bundle: Word | None = None, abstained: bool | None = None
) -> Page[Result]:
    rows = telemetry.results(fleet.engine, device=device, bundle=bundle, abstained=abstained, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


@router.get("/telemetry/summary", summary="Count inferences per device, bundle and label, and the bytes stored")
def summarise(fleet: InFleet, _who: Viewer) -> Summary:
    return Summary(counts=telemetry.tallies(fleet.engine), stored=telemetry.bytes_stored(fleet.engine))


@router.get("/events", summary="List what happened on devices")
def list_events(fleet: InFleet, _who: Viewer, paged: Paged, device: Word | None = None, kind: Word | None = None) -> Page[Event]:
    rows = telemetry.events(fleet.engine, device=device, kind=kind, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))
