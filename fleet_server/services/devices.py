"""Devices: what they last said, and what the fleet knows of them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, select

from fleet_server.domain import presence
from fleet_server.errors import NotFound
from fleet_server.services import streams
from fleet_server.services.streams import LedgerLine
from fleet_server.tables.database import reading
from fleet_server.tables.device import Device


@dataclass(frozen=True)
class DeviceView:
    """A device as the API shows it; `ledger` holds its current epoch, by lane."""

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
    ledger: dict[str, LedgerLine]


def rows_of_task(connection: Connection, task: str) -> list[Row]:
    return list(connection.execute(select(Device).where(Device.task == task).order_by(Device.id)))


def page(engine: Engine, now: datetime, *, after: str, limit: int) -> list[DeviceView]:
    """Devices with an id above `after`, in order."""
    with reading(engine) as connection:
        rows = list(connection.execute(select(Device).where(Device.id > after).order_by(Device.id).limit(limit)))
    lines = streams.lines(engine, [row.id for row in rows])
    return [_view(row, [line for line in lines if line.device == row.id], now) for row in rows]


def get(engine: Engine, device: str, now: datetime) -> DeviceView:
    """Raises NotFound."""
    with reading(engine) as connection:
        row = connection.execute(select(Device).where(Device.id == device)).one_or_none()
    if row is None:
        raise NotFound(f"there is no device {device!r}", field="device")
    return _view(row, streams.lines(engine, [device]), now)


def _view(row: Row, lines: list[LedgerLine], now: datetime) -> DeviceView:
    own = {name: getattr(row, name) for name in DeviceView.__dataclass_fields__ if name not in ("online", "ledger")}
    online = presence.is_online(row.online, row.last_seen, now, row.heartbeat_s)
    return DeviceView(online=online, ledger={line.lane: line for line in lines if line.epoch == row.epoch}, **own)
