"""Deleting a device with all that it sent."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from fleet_contract import limits
from fleet_server.api.deps import DEFAULT_PAGE_ROWS, Admin, InFleet
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import deletion

router = APIRouter(tags=["devices"])


class Deletion(Answer):
    """At `asked_at` the device and its rows were gone; at `cleared_at` the broker had nothing of it any more, at `done_at` neither had the lake nor
    the samples' folder."""

    device: str
    asked_at: datetime
    asked_by: str
    cleared_at: datetime | None
    done_at: datetime | None


@router.delete("/devices/{device}", status_code=202, summary="Delete a device, with all data of it")
def delete_device(device: Word, fleet: InFleet, who: Admin) -> Deletion:
    return deletion.begin(fleet, device, by=who.id, now=fleet.now())


@router.get("/deletions", summary="List deleted devices, the newest first")
def list_deletions(
    fleet: InFleet, _who: Admin, limit: Annotated[int, Query(ge=1, le=limits.MAX_PAGE_ROWS)] = DEFAULT_PAGE_ROWS
) -> Page[Deletion]:
    return Page(items=deletion.newest(fleet.engine, limit))
