"""Following one record across device, broker and server."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from fleet_contract import limits
from fleet_server.api.deps import DEFAULT_PAGE_ROWS, InFleet, Operator, Viewer
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import traces

router = APIRouter(tags=["traces"])


class Span(Answer):
    """As in OpenTelemetry; `service` says whose time it was, `parent` is null for a root."""

    id: str
    parent: str | None
    name: str
    service: str
    begin: datetime
    end: datetime
    attributes: dict[str, str | int]


class Trace(Answer):
    """`spans` come all at once, when the record can be queried. `asked_by` is null for one that began with a `traceparent` on the device."""

    id: str
    device: str
    asked_by: str | None
    asked_at: datetime | None
    complete: bool
    spans: list[Span]


@router.post("/devices/{device}/trace", status_code=202, summary="Follow the next inference of a device")
def follow(device: Word, fleet: InFleet, who: Operator) -> Trace:
    return traces.follow(fleet, device, by=who.id, now=fleet.now())


@router.get("/traces", summary="List the newest traces")
def list_traces(
    fleet: InFleet,
    _who: Viewer,
    device: Word | None = None,
    limit: Annotated[int, Query(ge=1, le=limits.MAX_PAGE_ROWS)] = DEFAULT_PAGE_ROWS,
) -> Page[Trace]:
    return Page(items=traces.newest(fleet.engine, device, limit))


@router.get("/traces/{trace}", summary="Show one trace")
def show_trace(trace: Word, fleet: InFleet, _who: Viewer) -> Trace:
    return traces.get(fleet.engine, trace)
