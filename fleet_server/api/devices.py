"""Devices, and their ledger."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from fleet_contract import limits
from fleet_server.api.deps import DEFAULT_PAGE_ROWS, Admin, InFleet, Operator, Viewer, following
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import devices, quarantine, streams

router = APIRouter(tags=["devices"])


class LaneBalance(Answer):
    """produced = stored + queued + dropped + excused: the last are missing, and accounted for all the same. `difference` is what is missing from
    that; it may be below zero while the device works, because its report lags. `lost` is above zero only when records are really missing."""

    produced: int
    acknowledged: int
    queued: int
    dropped: dict[str, int]
    stored: int
    excused: int
    malformed: int
    bytes: int
    difference: int
    lost: int
    balanced: bool
    reported_at: datetime | None


class LedgerItem(LaneBalance):
    device: str
    epoch: str
    lane: str


class Device(Answer):
    """`bundle` is what it reports to run, `shadow` what it reports to run beside that, `desired_bundle` what the fleet wants it to run. A quarantined
    device takes no part until it is released, one that floods until `throttled_until`; what it recorded waits on it.
    `clock_offset_s` is its wall clock less ours, when it last spoke."""

    id: str
    profile: str
    task: str
    online: bool
    phase: str
    bundle: str | None
    bundle_version: str | None
    desired_bundle: str | None
    shadow: str | None
    last_seen: datetime | None
    enrolled_at: datetime
    order_counter: int
    issued_counter: int
    inputs: int
    refused: dict[str, int]
    error: str | None
    agent_version: str
    epoch: str | None
    quarantined_at: datetime | None
    quarantine_reason: str | None
    throttled_until: datetime | None
    clock_offset_s: float | None
    ledger: dict[str, LaneBalance]


@router.get("/devices", summary="List devices, by id")
def list_devices(
    fleet: InFleet,
    _who: Viewer,
    after: Annotated[Word, Query(max_length=limits.MAX_DEVICE_ID_CHARS)] = "",
    limit: Annotated[int, Query(ge=1, le=limits.MAX_PAGE_ROWS)] = DEFAULT_PAGE_ROWS,
) -> Page[Device]:
    rows = devices.page(fleet.engine, fleet.now(), after=after, limit=limit)
    return Page(items=rows, next=following(rows, limit))


@router.get("/devices/{device}", summary="Show one device")
def show_device(device: Word, fleet: InFleet, _who: Viewer) -> Device:
    return devices.get(fleet.engine, device, fleet.now())


@router.post("/devices/{device}/quarantine", summary="Set a device apart: no orders, no acknowledgements, no files")
def quarantine_device(device: Word, fleet: InFleet, who: Operator) -> Device:
    quarantine.impose(fleet.engine, device, by=who.id, now=fleet.now())
    fleet.wake()
    return devices.get(fleet.engine, device, fleet.now())


@router.post("/devices/{device}/release", summary="Let a quarantined device take part again")
def release_device(device: Word, fleet: InFleet, who: Admin) -> Device:
    quarantine.release(fleet.engine, device, by=who.id, now=fleet.now())
    fleet.wake()
    return devices.get(fleet.engine, device, fleet.now())


@router.get("/ledger", summary="Show whether the records add up, per device, epoch and lane")
def show_ledger(fleet: InFleet, _who: Viewer, device: Word | None = None) -> Page[LedgerItem]:
    return Page(items=streams.lines(fleet.engine, None if device is None else [device]))
