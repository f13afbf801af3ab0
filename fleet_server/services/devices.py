"""Devices: what they last said, and what the fleet knows of them."""

from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, Engine, Row, select, update

from fleet_contract import limits, names
from fleet_contract.errors import BadName
from fleet_contract.messages import LaneLedger, Status
from fleet_server.domain import presence
from fleet_server.domain.records import is_count, is_word
from fleet_server.errors import BadRequest, Conflict, NotFound
from fleet_server.services import quarantine, streams
from fleet_server.services.streams import LedgerLine
from fleet_server.tables.database import reading, writing
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
    ledger: dict[str, LedgerLine]


def observe(engine: Engine, device: str, status: Status, at: datetime) -> None:
    """Take in a device's status, or its last will. Raises NotFound for a device that is not enrolled, BadRequest for impossible values,
    Conflict (code quarantined) for one that is set apart.

    A will says only that the device is gone: it was written when the device connected, and overwrites nothing else.
    """
    _check(status)
    with writing(engine) as connection:
        mine = Device.id == device
        held = select(Device.id, Device.instance, Device.quarantined_at).where(mine).with_for_update()
        row = connection.execute(held).one_or_none()
        if row is None:
            raise NotFound(f"device {device!r} is not enrolled", field="device")
        if row.quarantined_at is not None:
            raise Conflict(f"device {device!r} is quarantined", field="device", code="quarantined")
        if not status.online:
            connection.execute(update(Device).where(mine).values(online=False))
        elif not quarantine.look(connection, row, _instance(status), at):
            connection.execute(update(Device).where(mine).values(**_observed(status, at)))
            streams.report(connection, device, status.epoch, status.ledger, at)


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
    online = presence.is_online(row.online, row.last_seen, now)
    return DeviceView(online=online, ledger={line.lane: line for line in lines if line.epoch == row.epoch}, **own)


def _observed(status: Status, at: datetime) -> dict:
    return {
        "online": True,
        "last_seen": at,
        "epoch": status.epoch,
        "agent_version": status.agent_version,
        "phase": status.phase,
        "bundle": status.bundle,
        "bundle_version": status.bundle_version,
        "shadow": status.shadow or None,
        "order_counter": status.order_counter,
        "inputs": status.inputs,
        "refused": dict(status.refused),
        "error": status.error,
    }


def _instance(status: Status) -> str:
    return "" if status.instance is msgspec.UNSET else status.instance


def _check(status: Status) -> None:
    try:
        names.name(status.epoch, "epoch")
    except BadName as error:
        if status.online:
            raise BadRequest(str(error), field="epoch") from error
    counts = [status.order_counter, status.inputs, *status.refused.values()]
    for said in status.ledger.values():
        counts += _counts(said)
    if len(_instance(status)) > limits.MAX_NAME_CHARS:
        raise BadRequest("the instance of the status is too long", field="instance", limit=limits.MAX_NAME_CHARS)
    words = [_instance(status), status.agent_version, status.phase, status.bundle or "", status.bundle_version or "", status.error or ""]
    words.append(status.shadow or "")
    for said in status.ledger.values():
        words += [*said.dropped]
    if not all(map(is_count, counts)):
        raise BadRequest("a count of the status is out of range", field="status")
    if not all(map(is_word, [*words, *status.refused])):
        raise BadRequest("a text of the status is too long or has a NUL", field="status")


def _counts(said: LaneLedger) -> list[int]:
    return [said.produced, said.acknowledged, said.queued, *said.dropped.values()]
