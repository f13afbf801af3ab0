"""Alerts: opened when something is wrong, closed when it is right again, both audited."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, select, update

from fleet_server.domain.alerts import Kind
from fleet_server.errors import NotFound
from fleet_server.services import audit
from fleet_server.tables.alert import Alert
from fleet_server.tables.database import insert_new, reading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """What is wrong; `epoch` and `lane` where it is about one stream."""

    kind: Kind
    device: str
    epoch: str = ""
    lane: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.kind.value, self.device, self.epoch, self.lane


def raise_(connection: Connection, troubles: Sequence[Trouble], at: datetime) -> int:
    """Open an alert for each that has none open, and bring the details of the others up to date; returns how many are new."""
    known = {_key(row): row for row in open_of(connection, [trouble.device for trouble in troubles])}
    fresh = {trouble.key: trouble for trouble in troubles if trouble.key not in known}
    for trouble in troubles:
        row = known.get(trouble.key)
        if row is not None and row.detail != trouble.detail:
            connection.execute(update(Alert).where(Alert.id == row.id).values(detail=trouble.detail))
    if fresh:
        rows = [_row(trouble, at) for trouble in fresh.values()]
        connection.execute(insert_new(connection, Alert), rows)
        audit.append_all(connection, audit.SERVER, "alert.open", [(each.device, _audited(each)) for each in fresh.values()], at)
        for trouble in list(fresh.values())[:10]:
            whose = {"device": trouble.device} | ({"lane": trouble.lane} if trouble.lane else {})
            log.warning("alert %s: %s %s", trouble.kind, " ".join(whose.values()), trouble.detail, extra=whose)
    return len(fresh)


def settle(connection: Connection, rows: Sequence[Row], at: datetime) -> None:
    """Close these open alerts."""
    if rows:
        connection.execute(update(Alert).where(Alert.id.in_([row.id for row in rows])).values(closed_at=at))
        closed = [(row.device, {"kind": row.kind, "epoch": row.epoch, "lane": row.lane}) for row in rows]
        audit.append_all(connection, audit.SERVER, "alert.close", closed, at)


def open_of(connection: Connection, devices: Sequence[str], kinds: Sequence[Kind] = ()) -> list[Row]:
    """The open alerts of these devices (of these kinds)."""
    wanted = select(Alert).where(Alert.closed_at.is_(None), Alert.device.in_(set(devices)))
    return list(connection.execute(wanted.where(Alert.kind.in_([kind.value for kind in kinds])) if kinds else wanted))


def get(connection: Connection, alert: int) -> Row:
    """Raises NotFound."""
    row = connection.execute(select(Alert).where(Alert.id == alert)).one_or_none()
    if row is None:
        raise NotFound(f"there is no alert {alert}", field="alert")
    return row


def page(engine: Engine, *, after: int, limit: int, device: str | None, kind: str | None, open_only: bool) -> list[Row]:
    """Alerts with an id above `after`, oldest first."""
    wanted = select(Alert).where(Alert.id > after).order_by(Alert.id).limit(limit)
    wanted = wanted if device is None else wanted.where(Alert.device == device)
    wanted = wanted if kind is None else wanted.where(Alert.kind == kind)
    with reading(engine) as connection:
        return list(connection.execute(wanted.where(Alert.closed_at.is_(None)) if open_only else wanted))


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.kind, row.device, row.epoch, row.lane


def _row(trouble: Trouble, at: datetime) -> dict[str, Any]:
    own = {"kind": trouble.kind.value, "device": trouble.device, "epoch": trouble.epoch, "lane": trouble.lane}
    return {**own, "opened_at": at, "closed_at": None, "detail": trouble.detail}


def _audited(trouble: Trouble) -> dict[str, Any]:
    return {"kind": trouble.kind.value, "epoch": trouble.epoch, "lane": trouble.lane, **trouble.detail}
