"""Following one record from a device into the lake: asked for, looked at, handed on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, Select, delete, func, insert, select, update

from fleet_contract import limits
from fleet_contract.messages import Follow
from fleet_server.domain import spans
from fleet_server.domain.spans import Journey, Span
from fleet_server.errors import Conflict, NotFound
from fleet_server.fleet import Fleet
from fleet_server.services import audit
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.trace import Trace

_SECRET_BYTES = 16
_ID_CHARS, _PARENT_CHARS = 32, 16


@dataclass(frozen=True)
class TraceView:
    """`spans` is empty until the record is in the lake."""

    id: str
    device: str
    asked_by: str | None
    asked_at: datetime | None
    complete: bool
    spans: list[Span]


def follow(fleet: Fleet, device: str, *, by: str, now: datetime) -> TraceView:
    """Ask a device to have its next inference followed. Raises NotFound, Conflict for a device that cannot hear it now, Unavailable without a broker."""
    fresh = hashlib.sha256(fleet.new_secret(_SECRET_BYTES).encode()).hexdigest()
    wish = Follow(id=fresh[:_ID_CHARS], parent=fresh[_ID_CHARS : _ID_CHARS + _PARENT_CHARS])
    with writing(fleet.engine) as connection:
        _check_hears(connection, device)
        connection.execute(insert(Trace).values(id=wish.id, parent=wish.parent, device=device, asked_by=by, asked_at=now))
        prune(connection)
        audit.append(connection, by, "device.trace", device, {"trace": wish.id}, now)
        fleet.link.send_follow(device, wish)
    return TraceView(wish.id, device, by, now, complete=False, spans=[])


def get(engine: Engine, trace: str) -> TraceView:
    """Raises NotFound, also for one that was forgotten for newer ones."""
    with reading(engine) as connection:
        row = connection.execute(select(Trace).where(Trace.id == trace)).one_or_none()
    if row is None:
        raise NotFound(f"there is no trace {trace!r}", field="trace")
    return _view(row)


def newest(engine: Engine, device: str | None, limit: int) -> list[TraceView]:
    """Newest first."""
    wanted = _by_age().limit(limit) if device is None else _by_age().where(Trace.device == device).limit(limit)
    with reading(engine) as connection:
        return [_view(row) for row in connection.execute(wanted)]


def unexported(engine: Engine, limit: int) -> list[tuple[str, list[Span]]]:
    """Traces that are complete and that nobody was told of, with their spans; oldest first."""
    wanted = select(Trace).where(Trace.compacted_at.is_not(None), Trace.exported_at.is_(None)).order_by(Trace.compacted_at).limit(limit)
    with reading(engine) as connection:
        return [(row.id, spans.of(_journey(row))) for row in connection.execute(wanted)]


def mark_exported(engine: Engine, traces: Sequence[str], now: datetime) -> None:
    with writing(engine) as connection:
        connection.execute(update(Trace).where(Trace.id.in_(traces)).values(exported_at=now))


def prune(connection: Connection) -> None:
    """Forget the oldest above limits.MAX_KEPT_TRACES_COUNT: of those that people asked for, and of those that began on devices, which so crowd out
    none but each other."""
    for begun in (Trace.asked_at.is_(None), Trace.asked_at.is_not(None)):
        kept = _by_age().with_only_columns(Trace.id).where(begun).limit(limits.MAX_KEPT_TRACES_COUNT)
        connection.execute(delete(Trace).where(begun, Trace.id.not_in(kept)))


def _check_hears(connection: Connection, device: str) -> None:
    row = connection.execute(select(Device.online, Device.quarantined_at).where(Device.id == device)).one_or_none()
    if row is None:
        raise NotFound(f"there is no device {device!r}", field="device")
    if row.quarantined_at is not None or not row.online:
        state = "quarantined" if row.quarantined_at is not None else "offline"
        raise Conflict(f"device {device!r} is {state}: it would not hear that it is followed", field="device", code=state)


def _by_age() -> Select:
    """Of a trace that began on a device only the compactor's time is ours."""
    return select(Trace).order_by(func.coalesce(Trace.asked_at, Trace.compacted_at).desc(), Trace.id)


def _view(row: Row) -> TraceView:
    complete = row.compacted_at is not None
    return TraceView(row.id, row.device, row.asked_by, row.asked_at, complete, spans.of(_journey(row)) if complete else [])


def _journey(row: Row) -> Journey:
    return Journey(**{name: getattr(row, name) for name in Journey.__dataclass_fields__})
