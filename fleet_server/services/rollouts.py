"""Rollouts: made by people and by jobs, moved on by the control loop."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update

from fleet_server.domain import presence, rollout
from fleet_server.domain.rollout import DeviceState, RolloutState
from fleet_server.errors import BadRequest, Conflict, NotFound
from fleet_server.services import audit, bundles, devices, shadows
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.rollout import Rollout, RolloutDevice

_LIVE = (RolloutState.PROPOSED.value, *(state.value for state in rollout.ACTIVE))


@dataclass(frozen=True)
class RolloutView:
    id: int
    bundle: str
    task: str
    state: str
    everyone: bool
    shadow: bool
    canaries: list[str]
    devices: dict[str, str]
    finding: int | None
    reason: str
    created_by: str
    created_at: datetime
    ended_at: datetime | None
    compared: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What is asked for. `devices` None: every device of the task, those enrolled later too. `canaries` None: the rule chooses. `shadow`: run it beside
    what the devices run; those that run nothing, or this very bundle, take no part."""

    bundle: str
    devices: tuple[str, ...] | None = None
    canaries: tuple[str, ...] | None = None
    approved: bool = True
    finding: int | None = None
    shadow: bool = False


def create(engine: Engine, plan: Plan, *, by: str, now: datetime) -> RolloutView:
    """Raises NotFound (bundle), BadRequest (devices of another task, or unknown), Conflict (the task has a rollout under way)."""
    with writing(engine) as connection:
        made = open_rollout(connection, plan, by=by, now=now)
    return get(engine, made)


def open_rollout(connection: Connection, plan: Plan, *, by: str, now: datetime) -> int:
    """`create` in the caller's transaction; returns the id."""
    bundle = bundles.find(connection, plan.bundle)
    fleet = devices.rows_of_task(connection, bundle.task)
    chosen = _chosen(fleet, plan.devices, bundle.task)
    if plan.shadow:
        chosen = _shadowable(chosen, plan)
    anything_runs = any(row.desired_bundle for row in chosen)
    state = rollout.first_state(anything_runs=anything_runs, approved=plan.approved, shadow=plan.shadow)
    if plan.approved:
        _check_alone(connection, bundle.task)
    row = {
        "bundle": plan.bundle,
        "task": bundle.task,
        "state": state.value,
        "everyone": plan.devices is None,
        "shadow": plan.shadow,
        "canaries": _canaries(connection, plan, chosen, now) if anything_runs and not plan.shadow else [],
        "finding": plan.finding,
        "reason": "",
        "created_by": by,
        "created_at": now,
    }
    made = connection.execute(insert(Rollout).values(row)).inserted_primary_key[0]
    add_devices(connection, made, [row.id for row in chosen])
    audit.append(connection, by, "rollout.create", f"rollout:{made}", {"bundle": plan.bundle, "state": state.value}, now)
    return made


def approve(engine: Engine, made: int, *, by: str, now: datetime) -> RolloutView:
    """Raises NotFound, or Conflict when it is not waiting for approval or another one is under way."""
    with writing(engine) as connection:
        row = find(connection, made)
        if row.state != RolloutState.PROPOSED:
            raise Conflict(f"rollout {made} is {row.state}, not proposed", field="state")
        _check_alone(connection, row.task)
        begin(connection, row, by=by, now=now)
    return get(engine, made)


def begin(connection: Connection, row: Row, *, by: str, now: datetime) -> None:
    """Let a proposed rollout start."""
    takes_part = select(RolloutDevice.device).where(RolloutDevice.rollout == row.id)
    running = select(Device.id).where(Device.id.in_(takes_part), Device.desired_bundle.is_not(None)).limit(1)
    runs = connection.execute(running).first() is not None
    state = rollout.first_state(anything_runs=runs, approved=True, shadow=row.shadow)
    connection.execute(update(Rollout).where(Rollout.id == row.id).values(state=state.value))
    audit.append(connection, by, "rollout.approve", f"rollout:{row.id}", {"state": state.value}, now)


def under_way(connection: Connection, task: str) -> int | None:
    """The id of the task's rollout that is under way."""
    active = [state.value for state in rollout.ACTIVE]
    return connection.execute(select(Rollout.id).where(Rollout.task == task, Rollout.state.in_(active))).scalars().first()


def add_devices(connection: Connection, made: int, wanted: Sequence[str]) -> None:
    rows = [{"rollout": made, "device": device, "state": DeviceState.PENDING.value, "inputs_before": 0} for device in wanted]
    if rows:
        connection.execute(insert(RolloutDevice), rows)


def find(connection: Connection, made: int, *, lock: bool = True) -> Row:
    """Raises NotFound."""
    wanted = select(Rollout).where(Rollout.id == made)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise NotFound(f"there is no rollout {made}", field="rollout")
    return row


def live(connection: Connection) -> list[Row]:
    """Those not ended, oldest first."""
    return list(connection.execute(select(Rollout).where(Rollout.state.in_(_LIVE)).order_by(Rollout.id)))


def device_rows(connection: Connection, made: int) -> list[Row]:
    return list(connection.execute(select(RolloutDevice).where(RolloutDevice.rollout == made).order_by(RolloutDevice.device)))


def get(engine: Engine, made: int) -> RolloutView:
    """Raises NotFound."""
    with reading(engine) as connection:
        return _view(connection, find(connection, made, lock=False))


def page(engine: Engine, *, after: int, limit: int) -> list[RolloutView]:
    with reading(engine) as connection:
        rows = list(connection.execute(select(Rollout).where(Rollout.id > after).order_by(Rollout.id).limit(limit)))
        return [_view(connection, row) for row in rows]


def _view(connection: Connection, row: Row) -> RolloutView:
    devices_of = device_rows(connection, row.id)
    own: dict[str, Any] = {name: getattr(row, name) for name in RolloutView.__dataclass_fields__ if name not in ("devices", "compared")}
    compared = shadows.compared(connection, row, devices_of) if row.shadow else {}
    return RolloutView(devices={each.device: each.state for each in devices_of}, compared=compared, **own)


def _chosen(fleet: list[Row], wanted: Sequence[str] | None, task: str) -> list[Row]:
    if wanted is None:
        return fleet
    named = {*wanted}
    unknown = sorted(named - {row.id for row in fleet})
    if unknown or not wanted:
        raise BadRequest(f"no devices of task {task!r}: {', '.join(unknown[:5]) or 'an empty list'}", field="devices")
    return [row for row in fleet if row.id in named]


def _shadowable(chosen: list[Row], plan: Plan) -> list[Row]:
    found = [row for row in chosen if row.desired_bundle not in (None, plan.bundle)]
    if not found or (plan.devices is not None and len(found) < len(chosen)):
        idle = sorted({row.id for row in chosen} - {row.id for row in found})
        raise BadRequest(f"a shadow runs beside another bundle; not so on {', '.join(idle[:5]) or 'any device'}", field="devices")
    return found


def _canaries(connection: Connection, plan: Plan, chosen: list[Row], now: datetime) -> list[str]:
    ids = {row.id for row in chosen}
    named = [device for device in plan.canaries or () if device in ids]
    if named:
        return sorted(named)
    online = [row.id for row in chosen if presence.is_online(row.online, row.last_seen, now, row.heartbeat_s)]
    policy = bundles.policy_of(connection, plan.bundle).rollout
    return rollout.choose_canaries(online, sorted(ids - {*online}), policy)


def _check_alone(connection: Connection, task: str) -> None:
    other = under_way(connection, task)
    if other is not None:
        raise Conflict(f"rollout {other} of task {task!r} is under way: stop it or let it end first", field="bundle", limit=other)
