"""The audit log."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from fleet_server.api.deps import InFleet, Paged, Viewer, following
from fleet_server.api.schema import Answer, Page
from fleet_server.services import audit

router = APIRouter(prefix="/audit", tags=["audit"])


class Entry(Answer):
    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


class Verification(Answer):
    """`broken_at` is the first entry that does not follow from those before it."""

    intact: bool
    entries: int
    broken_at: int | None


@router.get("", summary="List changes, oldest first")
def list_entries(fleet: InFleet, _who: Viewer, paged: Paged) -> Page[Entry]:
    rows = audit.page(fleet.engine, paged.after, paged.limit)
    return Page(items=rows, next=following(rows, paged.limit, "seq"))


@router.get("/verify", summary="Recompute the hash chain over all entries")
def verify(fleet: InFleet, _who: Viewer) -> Verification:
    return audit.verify(fleet.engine)
