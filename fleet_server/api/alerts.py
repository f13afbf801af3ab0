"""Alerts: what is wrong with devices, and what was."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from fleet_server.api.deps import InFleet, Operator, Paged, Viewer, following
from fleet_server.api.schema import Answer, Number, Page, Word
from fleet_server.domain.alerts import Kind
from fleet_server.services import alerts, ledger

router = APIRouter(prefix="/alerts", tags=["devices"])


class Alert(Answer):
    """`epoch` and `lane` are empty where it is about the device as a whole. Of `ledger-missing`, the detail holds how many records are `lost` and
    `first_missing`, the sequence number of the first."""

    id: int
    kind: Kind
    device: str
    epoch: str
    lane: str
    opened_at: datetime
    closed_at: datetime | None
    detail: dict[str, Any]


@router.get("", summary="List alerts, oldest first")
def list_alerts(
    fleet: InFleet,
    _who: Viewer,
    paged: Paged,
    device: Word | None = None,
    kind: Kind | None = None,
    open_only: Annotated[bool, Query(alias="open", description="only those that are not closed")] = False,
) -> Page[Alert]:
    rows = alerts.page(fleet.engine, after=paged.after, limit=paged.limit, device=device, kind=kind, open_only=open_only)
    return Page(items=rows, next=following(rows, paged.limit, "id"))


@router.post("/{alert}/accept", summary="Accept a loss that cannot be healed: the alert closes, and opens again when more is missing")
def accept_loss(alert: Number, fleet: InFleet, who: Operator) -> Alert:
    return ledger.accept(fleet.engine, alert, by=who.id, now=fleet.now())
