"""The control loop's hand on rollouts: gather the facts, ask the rule, write down what it decided."""

from datetime import datetime

from sqlalchemy import Connection, Engine, Row, func, select, update

from fleet_contract.manifest import Policy
from fleet_server.domain import presence, rollout, shadow
from fleet_server.domain.retraining import FindingState
from fleet_server.domain.rollout import Decision, DeviceFacts, DeviceState, RolloutState
from fleet_server.errors import Conflict
from fleet_server.services import audit, bundles, devices, rollouts, shadows
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event
from fleet_server.tables.finding import Finding
from fleet_server.tables.result import Tally
from fleet_server.tables.rollout import Rollout, RolloutDevice
from fleet_server.tables.window import Window

FAILURES = ("update.rejected", "update.rolled-back")
REFUSED = "input.refused"
PROBATION = "probation"
"""The phase of a device that runs a new bundle but may still fall back by itself."""
_UNSETTLED = (DeviceState.ORDERED.value,)


def advance(engine: Engine, now: datetime) -> int:
    """Move every live rollout on by what is known now; returns how many changed their state."""
    with reading(engine) as connection:
        proposed = any(row.state == RolloutState.PROPOSED for row in rollouts.live(connection))
    begun = _begin_approved(engine, now) if proposed else 0
    with reading(engine) as connection:
        waiting = [row.id for row in rollouts.live(connection) if row.state != RolloutState.PROPOSED]
        settling = select(Rollout.id).join(RolloutDevice, RolloutDevice.rollout == Rollout.id)
        done = settling.where(Rollout.state == RolloutState.DONE.value, RolloutDevice.state.in_(_UNSETTLED)).distinct()
        waiting += connection.execute(done).scalars().all()
    return begun + sum(_advance_one(engine, made, now) for made in waiting)


def stop(engine: Engine, made: int, *, by: str, now: datetime) -> None:
    """A person stops it. Raises NotFound, or Conflict when it has ended."""
    with writing(engine) as connection:
        row = rollouts.find(connection, made)
        if row.state not in {state.value for state in (RolloutState.PROPOSED, *rollout.ACTIVE)}:
            raise Conflict(f"rollout {made} is {row.state} already", field="state")
        reason = f"stopped by {by}"
        decision = Decision(RolloutState.STOPPED, reason, {}) if row.shadow else rollout.stop(_facts(connection, row, now), reason)
        _apply(connection, row, decision, by, now)


def _begin_approved(engine: Engine, now: datetime) -> int:
    """Start what a job proposed and no person need approve, the oldest first, once nothing else is under way for its task."""
    begun = 0
    with writing(engine) as connection:
        for row in rollouts.live(connection):
            mine = row.state == RolloutState.PROPOSED and row.created_by == audit.SERVER
            if mine and not rollouts.under_way(connection, row.task) and not bundles.policy_of(connection, row.bundle).retrain.approval:
                rollouts.begin(connection, row, by=audit.SERVER, now=now)
                begun += 1
    return begun


def _advance_one(engine: Engine, made: int, now: datetime) -> bool:
    with writing(engine) as connection:
        row = rollouts.find(connection, made)
        if row.everyone and row.state == RolloutState.WAVE:
            known = {each.device for each in rollouts.device_rows(connection, made)}
            newcomers = [each.id for each in devices.rows_of_task(connection, row.task) if each.id not in known]
            rollouts.add_devices(connection, made, newcomers)
        policy: Policy = bundles.policy_of(connection, row.bundle)
        if row.state == RolloutState.SHADOW:
            known_of = shadows.facts(connection, row, rollouts.device_rows(connection, made))
            decision = shadow.decide(known_of, policy.rollout.gate_inputs)
        else:
            decision = rollout.decide(RolloutState(row.state), _facts(connection, row, now), policy.rollout)
        _apply(connection, row, decision, audit.SERVER, now)
        return decision.state != row.state


def _facts(connection: Connection, row: Row, now: datetime) -> list[DeviceFacts]:
    known = {each.id: each for each in devices.rows_of_task(connection, row.task)}
    each_device = rollouts.device_rows(connection, row.id)
    return [_fact(connection, row, each, known[each.device], now) for each in each_device if each.device in known]


def _fact(connection: Connection, row: Row, mine: Row, device: Row, now: datetime) -> DeviceFacts:
    asked = mine.ordered_at is not None
    return DeviceFacts(
        device=device.id,
        state=DeviceState(mine.state),
        canary=device.id in row.canaries,
        runs_it=device.bundle == row.bundle and device.phase != PROBATION,
        has_previous=mine.previous is not None,
        absent=presence.is_absent(device.online, device.last_seen, now),
        failure=_failure(connection, row.bundle, mine) if asked else None,
        drifted=asked and _has_finding(connection, device.id, row.bundle),
        suspicious=asked and _streak(connection, device.id, row.bundle) > 0,
        inputs=answered(connection, device.id, row.bundle) - mine.inputs_before if asked else 0,
        refused=_refused(connection, mine) if mine.active_at is not None else 0,
    )


def answered(connection: Connection, device: str, bundle: str) -> int:
    """How many inputs the device has answered with the bundle."""
    total = select(func.coalesce(func.sum(Tally.count), 0)).where(Tally.device == device, Tally.bundle == bundle)
    return int(connection.execute(total).scalar_one())


def _failure(connection: Connection, bundle: str, mine: Row) -> str | None:
    since = select(Event).where(Event.device == mine.device, Event.kind.in_(FAILURES), Event.received_at >= mine.ordered_at)
    for event in connection.execute(since.order_by(Event.id)):
        if event.detail.get("sha256") == bundle:
            return f"{event.kind} {event.detail.get('code', '')}: {event.detail.get('message', '')}".rstrip(" :")
    return None


def _refused(connection: Connection, mine: Row) -> int:
    since = select(Event.detail).where(Event.device == mine.device, Event.kind == REFUSED, Event.received_at >= mine.active_at)
    details = connection.execute(since).scalars()
    return sum(value for detail in details for value in detail.values() if isinstance(value, int))


def _has_finding(connection: Connection, device: str, bundle: str) -> bool:
    found = select(Finding.id).where(Finding.device == device, Finding.bundle == bundle, Finding.state != FindingState.CLOSED.value)
    return connection.execute(found).first() is not None


def _streak(connection: Connection, device: str, bundle: str) -> int:
    judged = select(Window.streak).where(Window.device == device, Window.bundle == bundle, Window.position.is_not(None))
    return connection.execute(judged.order_by(Window.position.desc()).limit(1)).scalar_one_or_none() or 0


def _apply(connection: Connection, row: Row, decision: Decision, by: str, now: datetime) -> None:
    for device in decision.order:
        (shadows.order if row.shadow else _order)(connection, row, device, now)
    for device, state in decision.devices.items():
        when = {"active_at": now} if state is DeviceState.ACTIVE else {}
        connection.execute(_mine(row.id, device).values(state=state.value, **when))
    for device in decision.send_back:
        _send_back(connection, row, device)
    if (decision.state, decision.reason) == (row.state, row.reason):
        return
    ended = {"ended_at": now} if decision.state in (RolloutState.DONE, RolloutState.STOPPED) and row.ended_at is None else {}
    if ended and row.shadow:
        shadows.end(connection, row)
    reason = decision.reason or row.reason
    connection.execute(update(Rollout).where(Rollout.id == row.id).values(state=decision.state.value, reason=reason, **ended))
    if decision.state != row.state:
        detail = {"from": row.state, "to": decision.state.value, "reason": reason}
        audit.append(connection, by, "rollout.advance", f"rollout:{row.id}", detail, now)


def _order(connection: Connection, row: Row, device: str, now: datetime) -> None:
    previous = connection.execute(select(Device.desired_bundle).where(Device.id == device)).scalar_one()
    back = previous if previous != row.bundle else None
    before = answered(connection, device, row.bundle)
    connection.execute(_mine(row.id, device).values(previous=back, ordered_at=now, inputs_before=before))
    connection.execute(update(Device).where(Device.id == device).values(desired_bundle=row.bundle, desired_rollout=row.id))


def _send_back(connection: Connection, row: Row, device: str) -> None:
    previous = select(RolloutDevice.previous).where(RolloutDevice.rollout == row.id, RolloutDevice.device == device).scalar_subquery()
    mine = (Device.id == device, Device.desired_rollout == row.id)
    connection.execute(update(Device).where(*mine).values(desired_bundle=previous, desired_rollout=None))


def _mine(made: int, device: str):
    return update(RolloutDevice).where(RolloutDevice.rollout == made, RolloutDevice.device == device)
