"""What a rollout's rule looks at, of all its devices together: as many questions to the database for ten thousand as for one."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from fleet_server.domain import presence
from fleet_server.domain.retraining import FindingState
from fleet_server.domain.rollout import DeviceFacts, DeviceState, RolloutState
from fleet_server.tables.bulk import rows_of
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event
from fleet_server.tables.finding import Finding
from fleet_server.tables.rollout import RolloutDevice
from fleet_server.tables.tally import Tally
from fleet_server.tables.window import Window

FAILURES = ("update.rejected", "update.rolled-back")
REFUSED = "input.refused"
PROBATION = "probation"
"""The phase of a device that runs a new bundle but may still fall back by itself."""
UNSETTLED = (DeviceState.ORDERED.value,)


def facts(connection: Connection, rollout: Row, now: datetime) -> list[DeviceFacts]:
    """Of every device of the task that takes part; once the rollout is done, of those alone that are not there yet. How the model behaves is
    looked up for the canaries, while a gate waits for them: elsewhere no rule asks for it."""
    rows = connection.execute(_taking_part(rollout)).all()
    asked = {row.device: row for row in rows if row.ordered_at is not None}
    canaries = {*rollout.canaries}
    gate = [device for device in asked if device in canaries] if rollout.state == RolloutState.CANARY else []
    failures, drifted = _failures(connection, rollout), _drifted(connection, rollout)
    inputs, suspicious = answered(connection, rollout.bundle, gate), _suspicious(connection, rollout.bundle, gate)
    refused = _refused(connection, rollout, gate)
    return [
        DeviceFacts(
            device=row.device,
            state=DeviceState(row.state),
            canary=row.device in canaries,
            runs_it=row.bundle == rollout.bundle and row.phase != PROBATION,
            has_previous=row.previous is not None,
            absent=presence.is_absent(row.online, row.last_seen, now, row.heartbeat_s),
            failure=failures.get(row.device),
            drifted=row.device in asked and row.device in drifted,
            suspicious=row.device in suspicious,
            inputs=inputs.get(row.device, row.inputs_before) - row.inputs_before if row.device in asked else 0,
            refused=refused.get(row.device, 0),
        )
        for row in rows
    ]


def answered(connection: Connection, bundle: str, devices: Collection[str]) -> dict[str, int]:
    """How many inputs each of these devices has answered with the bundle."""
    total = select(Tally.device, func.sum(Tally.count).label("total")).where(Tally.bundle == bundle).group_by(Tally.device)
    return {row.device: int(row.total) for row in _rows(connection, total, Tally.device, devices)}


def _taking_part(rollout: Row) -> Select:
    mine = (RolloutDevice.device, RolloutDevice.state, RolloutDevice.previous, RolloutDevice.ordered_at, RolloutDevice.inputs_before)
    theirs = (Device.bundle, Device.phase, Device.online, Device.last_seen, Device.heartbeat_s)
    wanted = select(*mine, *theirs).join(Device, Device.id == RolloutDevice.device)
    wanted = wanted.where(RolloutDevice.rollout == rollout.id, Device.task == rollout.task).order_by(RolloutDevice.device)
    return wanted.where(RolloutDevice.state.in_(UNSETTLED)) if rollout.state == RolloutState.DONE else wanted


def since(rollout: Row, kinds: Iterable[str], begin: Any) -> Select:
    """Events of these kinds that devices of the rollout told of after `begin`, a column of RolloutDevice, in order."""
    mine = (RolloutDevice.device == Event.device) & (RolloutDevice.rollout == rollout.id)
    wanted = select(Event.device, Event.kind, Event.detail).join(RolloutDevice, mine)
    return wanted.where(Event.kind.in_(kinds), Event.received_at >= begin).order_by(Event.id)


def _failures(connection: Connection, rollout: Row) -> dict[str, str]:
    """The first of each device."""
    found: dict[str, str] = {}
    for event in connection.execute(since(rollout, FAILURES, RolloutDevice.ordered_at)):
        if event.detail.get("sha256") == rollout.bundle:
            told = f"{event.kind} {event.detail.get('code', '')}: {event.detail.get('message', '')}".rstrip(" :")
            found.setdefault(event.device, told)
    return found


def _drifted(connection: Connection, rollout: Row) -> set[str]:
    found = select(Finding.device).where(Finding.bundle == rollout.bundle, Finding.state != FindingState.CLOSED.value)
    return set(connection.execute(found).scalars())


def _suspicious(connection: Connection, bundle: str, devices: Collection[str]) -> set[str]:
    """Those whose newest window looks drifted."""
    judged = (Window.bundle == bundle, Window.position.is_not(None))
    newest = select(Window.device, func.max(Window.position).label("position")).where(*judged).group_by(Window.device).subquery()
    same = (Window.device == newest.c.device) & (Window.position == newest.c.position)
    wanted = select(Window.device, Window.streak).join(newest, same).where(*judged)
    return {row.device for row in _rows(connection, wanted, Window.device, devices) if row.streak > 0}


def _refused(connection: Connection, rollout: Row, devices: Collection[str]) -> dict[str, int]:
    """Inputs that each refused since it runs the bundle."""
    found: dict[str, int] = {}
    for event in _rows(connection, since(rollout, (REFUSED,), RolloutDevice.active_at), Event.device, devices):
        found[event.device] = found.get(event.device, 0) + sum(value for value in event.detail.values() if isinstance(value, int))
    return found


def _rows(connection: Connection, wanted: Select, column: Any, devices: Collection[str]) -> Iterable[Row]:
    return rows_of(connection, wanted, column, devices) if devices else ()
