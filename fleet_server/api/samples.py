"""Samples to look at, and labels for them."""

from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import Field

from fleet_contract import limits
from fleet_server.api.deps import InFleet, Operator, Paged, Viewer, following
from fleet_server.api.schema import Answer, Body, Number, Page, Word
from fleet_server.services import samples

router = APIRouter(tags=["samples"])
_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Cache-Control": "private, max-age=86400"}
"""The bytes come from a device: a browser must take them for nothing but what they are said to be."""


class Sample(Answer):
    """`label` and `value` are the model's answer, `truth` a person's."""

    id: int
    device: str
    bundle: str
    campaign: str
    input_id: str
    media_type: str
    bytes: int
    at: datetime
    label: str | None
    value: float
    truth: str | None


class Label(Body):
    sample: Number
    label: Word


class Labels(Body):
    labels: list[Label] = Field(min_length=1, max_length=limits.MAX_LABELS_PER_REQUEST)


class Stored(Answer):
    stored: int


@router.get("/samples", summary="List samples")
def list_samples(
    fleet: InFleet, _who: Viewer, paged: Paged, device: Word | None = None, labelled: bool | None = None, finding: Number | None = None
) -> Page[Sample]:
    wanted = samples.Filter(device=device, labelled=labelled, finding=finding)
    rows = samples.page(fleet.engine, wanted, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


@router.get("/samples/{sample}/content", summary="A sample's bytes as the device acquired them", response_class=FileResponse)
def show_content(sample: Number, fleet: InFleet, _who: Viewer) -> FileResponse:
    path, media_type = samples.content(fleet, sample)
    return FileResponse(path, media_type=media_type, headers=_HEADERS)


@router.post("/labels", summary="Label samples; a second label corrects the first")
def store_labels(body: Labels, fleet: InFleet, who: Operator) -> Stored:
    """All or none: an unknown sample or class refuses the request and names the one."""
    given = [(label.sample, label.label) for label in body.labels]
    return Stored(stored=samples.label(fleet, given, by=who.id, now=fleet.now()))
