"""What devices say of themselves, taken in many at a time: the newest of each counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, String, cast, select, update

from fleet_contract.limits import MAX_CLOCK_SKEW_S
from fleet_contract.messages import Status
from fleet_server.domain import clocks
from fleet_server.domain.alerts import Kind
from fleet_server.domain.statuses import check, instance, is_news, observed
from fleet_server.errors import BadRequest, Conflict, NotFound, ServerError
from fleet_server.services import alerts, quarantine, streams
from fleet_server.services.alerts import Trouble
from fleet_server.tables.bulk import change, instants, rows_of
from fleet_server.tables.database import writing
from fleet_server.tables.device import Device

_KNOWN = (
    *(
        getattr(Device, name)
        for name in ("id", "instance", "quarantined_at", "said_at", "clock_offset_s", "epoch", "agent_version", "phase")
    ),
    *(getattr(Device, name) for name in ("bundle", "bundle_version", "shadow", "order_counter", "inputs", "error", "heartbeat_s")),
    cast(Device.refused, String).label("refused"),
)
_Taken = list[tuple[Row, list["Said"]]]


@dataclass(frozen=True)
class Said:
    """A status, or a last will, and when it came here."""

    device: str
    status: Status
    at: datetime


def observe(engine: Engine, device: str, status: Status, at: datetime) -> None:
    """Take in one. Raises NotFound for a device that is not enrolled, BadRequest for impossible values, Conflict (code quarantined) for one
    that is set apart."""
    for error in observe_all(engine, [Said(device, status, at)]).values():
        raise error


def observe_all(engine: Engine, said: Sequence[Said]) -> dict[str, ServerError]:
    """Take in statuses of many devices, in the order in which they came, in one transaction; returns why those of a device were not taken.

    A will says only that the device is gone: it was written when the device connected, and overwrites nothing else.
    """
    refused: dict[str, ServerError] = {}
    heard: dict[str, list[Said]] = {}
    for each in said:
        try:
            check(each.status)
        except BadRequest as error:
            refused[each.device] = error
        else:
            heard.setdefault(each.device, []).append(each)
    with writing(engine) as connection:
        held = select(*_KNOWN).order_by(Device.id).with_for_update(key_share=True)
        rows = {row.id: row for row in rows_of(connection, held, Device.id, heard)}
        for device in heard:
            if why := _why_not(device, rows.get(device)):
                refused[device] = why
        _take(connection, [(row, heard[device]) for device, row in rows.items() if row.quarantined_at is None])
    return refused


def _why_not(device: str, row: Row | None) -> ServerError | None:
    if row is None:
        return NotFound(f"device {device!r} is not enrolled", field="device")
    if row.quarantined_at is not None:
        return Conflict(f"device {device!r} is quarantined", field="device", code="quarantined")
    return None


def _take(connection: Connection, taken: _Taken) -> None:
    spoken = [(row, [(instance(each.status), each.at) for each in mine if each.status.online]) for row, mine in taken]
    apart = quarantine.look(connection, spoken)
    present = [(row, mine) for row, mine in taken if row.id not in apart]
    newest = [(row, said[-1]) for row, mine in present if (said := [each for each in mine if each.status.online])]
    _write(connection, newest)
    _leave(connection, [row.id for row, mine in present if not mine[-1].status.online])
    for device in streams.report(connection, [(row.id, said.status.epoch, said.status.ledger, said.at) for row, said in newest]):
        quarantine.impose_epochs(connection, device, newest[0][1].at)
    if begun := [row.id for row, said in newest if row.epoch not in (None, said.status.epoch)]:
        streams.abandon(connection, begun, newest[0][1].at)
    _watch_clocks(connection, newest)


def _write(connection: Connection, newest: Sequence[tuple[Row, Said]]) -> None:
    """A heartbeat that says nothing new touches no more than when it came."""
    values = [(row, observed(said.status), _times(row, said)) for row, said in newest]
    _change(connection, [{"id": row.id, **own, **times} for row, own, times in values if is_news(own, row)])
    _change(connection, [{"id": row.id, **times} for row, own, times in values if not is_news(own, row)])


def _change(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        columns |= {name: instants(connection, columns[name]) for name in ("last_seen", "said_at")}
        change(connection, Device, columns, keys=["id"])


def _times(row: Row, said: Said) -> dict[str, Any]:
    """A status that the broker kept and delivers again says nothing of the device's clock."""
    offset = row.clock_offset_s if said.status.at == row.said_at else (said.status.at - said.at).total_seconds()
    return {"online": True, "last_seen": said.at, "said_at": said.status.at, "clock_offset_s": offset}


def _leave(connection: Connection, gone: Sequence[str]) -> None:
    if gone:
        connection.execute(update(Device).where(Device.id.in_(gone)).values(online=False))


def _watch_clocks(connection: Connection, newest: Sequence[tuple[Row, Said]]) -> None:
    measured = [(row, said, _times(row, said)["clock_offset_s"]) for row, said in newest if said.status.at != row.said_at]
    off = [(row, said, offset) for row, said, offset in measured if clocks.is_off(row.clock_offset_s, offset)]
    right = [row.id for row, _, offset in measured if abs(row.clock_offset_s or 0.0) > MAX_CLOCK_SKEW_S >= abs(offset)]
    if off:
        details = [Trouble(Kind.CLOCK_OFF, row.id, detail={"offset_s": round(offset)}) for row, _, offset in off]
        alerts.raise_(connection, details, off[0][1].at)
    if right:
        alerts.settle(connection, alerts.open_of(connection, right, [Kind.CLOCK_OFF]), newest[0][1].at)
