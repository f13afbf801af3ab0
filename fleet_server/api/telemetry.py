"""What devices recorded: inferences, their counts, and events."""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from fleet_contract import limits
from fleet_server.api.deps import DEFAULT_PAGE_ROWS, InFleet, Paged, Viewer, following, known_query
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.queries import formats, question
from fleet_server.queries.question import Question
from fleet_server.queries.reader import Reader
from fleet_server.services import telemetry

router = APIRouter(tags=["telemetry"], dependencies=[Depends(known_query)])
_EXPORTS: dict[int | str, dict[str, Any]] = {200: {"content": {formats.CSV: {}, formats.ARROW: {}}}}


class Result(Answer):
    """`detail` is a ranking of classes, the value of each target, or boxes, as its `type` says; None where label and value say all.
    `abstained`: the model was not sure enough, and `label` is its fallback. `clock` says whether the device's clock could be trusted with `at`;
    `mono_us` is on its monotonic clock, in the run `boot`."""

    device: str
    epoch: str
    seq: int
    at: datetime
    task: str
    bundle: str
    input_id: str
    label: str | None
    value: float
    latency_us: int
    abstained: bool
    detail: dict[str, Any] | None
    received_at: datetime
    mono_us: int
    boot: str
    clock: str


class Group(Answer):
    """The keys that were asked for, and figures of the inferences that share them. A minute, hour or day is named by its beginning; `label` is ""
    where the model gave none. The quantiles are in the order in which they were asked for."""

    minute: datetime | None = None
    hour: datetime | None = None
    day: datetime | None = None
    device: str | None = None
    bundle: str | None = None
    task: str | None = None
    label: str | None = None
    inputs: int
    abstained: int
    value_mean: float
    value_min: float
    value_max: float
    latency_us_mean: float
    latency_us_max: int
    value_quantiles: list[float] | None = None
    latency_us_quantiles: list[float] | None = None


class Telemetry(Answer):
    """Groups where the question has `group_by`, else single inferences; `next` is the `after` of the following page, null on the last."""

    items: list[Result] | list[Group]
    next: str | None


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


def asked(
    fleet: InFleet,
    since: datetime | None = None,
    until: datetime | None = None,
    device: Word | None = None,
    bundle: Word | None = None,
    version: Word | None = None,
    task: Word | None = None,
    label: Word | None = None,
    abstained: bool | None = None,
    group_by: Annotated[Word | None, Query(description="minute, hour or day; device, bundle, task, label; with commas between")] = None,
    quantiles: Annotated[Word | None, Query(description="of values and latencies in each group, as 0.5,0.99")] = None,
) -> Question:
    """Raises BadRequest."""
    bundles = telemetry.bundles_of(fleet.engine, bundle=bundle, version=version, task=task)
    keys, shares = question.keys(group_by), question.shares(quantiles)
    return question.check(Question(since, until, device, bundles, task, label, abstained, keys, shares))


@router.get("/telemetry", summary="Inferences by time, or figures of groups of them", response_model_exclude_unset=True, responses=_EXPORTS)
def list_results(
    request: Request,
    _who: Viewer,
    wanted: Annotated[Question, Depends(asked)],
    form: Annotated[Literal["json", "csv", "arrow"] | None, Query(alias="format", description="overrides the header Accept")] = None,
    after: Annotated[str | None, Query(description="the `next` of the page before", max_length=2_000)] = None,
    limit: Annotated[int, Query(ge=1, le=limits.MAX_PAGE_ROWS)] = DEFAULT_PAGE_ROWS,
) -> Telemetry:
    """A page as JSON, or everything as CSV or an Arrow IPC stream, which neither `after` nor `limit` cuts."""
    reader: Reader = request.app.state.reader
    match form or _accepted(request.headers.get("accept", "")):
        case "csv":
            return _stream(formats.csv(reader.batches(wanted), wanted.quantiles), formats.CSV)
        case "arrow":
            return _stream(formats.arrow(reader.batches(wanted)), formats.ARROW)
    found = reader.page(wanted, question.cursor(after, wanted), limit)
    return Telemetry(items=[(Group if wanted.group_by else Result)(**item) for item in found.items], next=found.next)


@router.get("/telemetry/summary", summary="Count inferences per device, bundle and label, and the bytes stored")
def summarise(fleet: InFleet, _who: Viewer) -> Summary:
    return Summary(counts=telemetry.tallies(fleet.engine), stored=telemetry.bytes_stored(fleet.engine))


@router.get("/events", summary="List what happened on devices")
def list_events(fleet: InFleet, _who: Viewer, paged: Paged, device: Word | None = None, kind: Word | None = None) -> Page[Event]:
    rows = telemetry.events(fleet.engine, device=device, kind=kind, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


def _accepted(accept: str) -> str:
    return next((name for name, media in (("csv", formats.CSV), ("arrow", formats.ARROW)) if media in accept), "json")


def _stream(pieces: Iterator[bytes], media_type: str) -> StreamingResponse:
    """What is wrong with the question is known before the first piece, and still has a status."""
    return StreamingResponse(chain([next(pieces)], pieces), media_type=media_type)
