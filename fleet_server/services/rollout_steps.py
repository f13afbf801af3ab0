"""The control loop's hand on rollouts: gather the facts, ask the rule, write down what it decided."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, select, update

from fleet_contract.manifest import Policy
from fleet_server.domain import rollout, shadow
from fleet_server.domain.rollout import Decision, DeviceState, RolloutState
from fleet_server.errors import Conflict
from fleet_server.services import audit, bundles, devices, rollout_facts, rollouts, shadows
from fleet_server.tables.bulk import change, instants, rows_of
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.rollout import Rollout, RolloutDevice


def advance(engine: Engine, now: datetime) -> int:
    """Move every live rollout on by what is known now; returns how many changed their state."""
    with reading(engine) as connection:
        proposed = any(row.state == RolloutState.PROPOSED for row in rollouts.live(connection))
    begun = _begin_approved(engine, now) if proposed else 0
    with reading(engine) as connection:
        waiting = [row.id for row in rollouts.live(connection) if row.state != RolloutState.PROPOSED]
        settling = select(Rollout.id).join(RolloutDevice, RolloutDevice.rollout == Rollout.id)
        done = settling.where(Rollout.state == RolloutState.DONE.value, RolloutDevice.state.in_(rollout_facts.UNSETTLED)).distinct()
        waiting += connection.execute(done).scalars().all()
    return begun + sum(_advance_one(engine, made, now) for made in waiting)


def stop(engine: Engine, made: int, *, by: str, now: datetime) -> None:
    """A person stops it. Raises NotFound, or Conflict when it has ended."""
    with writing(engine) as connection:
        row = rollouts.find(connection, made)
        if row.state not in {state.value for state in (RolloutState.PROPOSED, *rollout.ACTIVE)}:
            raise Conflict(f"rollout {made} is {row.state} already", field="state")
        reason = f"stopped by {by}"
        decision = (
            Decision(RolloutState.STOPPED, reason, {}) if row.shadow else rollout.stop(rollout_facts.facts(connection, row, now), reason)
        )
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
            decision = rollout.decide(RolloutState(row.state), rollout_facts.facts(connection, row, now), policy.rollout)
        _apply(connection, row, decision, audit.SERVER, now)
        return decision.state != row.state


def _apply(connection: Connection, row: Row, decision: Decision, by: str, now: datetime) -> None:
    if decision.order:
        (shadows.order if row.shadow else _order)(connection, row, decision.order, now)
    _move(connection, row.id, decision.devices, now)
    if decision.send_back:
        _send_back(connection, row, decision.send_back)
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


def _move(connection: Connection, made: int, devices: Mapping[str, DeviceState], now: datetime) -> None:
    for state in set(devices.values()):
        moved = [device for device, its in devices.items() if its is state]
        values = {"rollout": [made] * len(moved), "device": moved, "state": [state.value] * len(moved)}
        if state is DeviceState.ACTIVE:
            values["active_at"] = instants(connection, [now] * len(moved))
        change(connection, RolloutDevice, values, keys=["rollout", "device"])


def _order(connection: Connection, row: Row, devices: Sequence[str], now: datetime) -> None:
    before = rollout_facts.answered(connection, row.bundle, devices)
    held = select(Device.id, Device.desired_bundle).order_by(Device.id).with_for_update(key_share=True)
    wanted = {each.id: each.desired_bundle for each in rows_of(connection, held, Device.id, devices)}
    ordered = {
        "rollout": [row.id] * len(devices),
        "device": devices,
        "previous": [wanted[device] if wanted[device] != row.bundle else None for device in devices],
        "ordered_at": instants(connection, [now] * len(devices)),
        "inputs_before": [before.get(device, 0) for device in devices],
    }
    change(connection, RolloutDevice, ordered, keys=["rollout", "device"])
    desired = {"id": devices, "desired_bundle": [row.bundle] * len(devices), "desired_rollout": [row.id] * len(devices)}
    change(connection, Device, desired, keys=["id"])


def _send_back(connection: Connection, row: Row, devices: Sequence[str]) -> None:
    """Those that were given no other order since."""
    wanted = select(RolloutDevice.device, RolloutDevice.previous).join(Device, Device.id == RolloutDevice.device)
    mine = wanted.where(RolloutDevice.rollout == row.id, Device.desired_rollout == row.id)
    mine = mine.order_by(Device.id).with_for_update(of=Device, key_share=True)
    back = rows_of(connection, mine, RolloutDevice.device, devices)
    previous = {
        "id": [each.device for each in back],
        "desired_bundle": [each.previous for each in back],
        "desired_rollout": [None] * len(back),
    }
    change(connection, Device, previous, keys=["id"])
