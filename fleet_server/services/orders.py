"""Orders: desired state, signed. One is issued when what a device shall do has changed, or the last nears its expiry,
or the orders key was replaced."""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, Engine, Row, Select, and_, insert, select, update

from fleet_contract.order import Order, SamplingCampaign
from fleet_server.domain import counters
from fleet_server.domain.retraining import FindingState
from fleet_server.domain.rollout import RolloutState
from fleet_server.fleet import Fleet
from fleet_server.services import audit, bundles
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.finding import Finding
from fleet_server.tables.order import IssuedOrder
from fleet_server.tables.rollout import Rollout

LIFETIME = timedelta(days=30)
RENEW_BEFORE = timedelta(days=10)
_TAKES_PART = Device.quarantined_at.is_(None)


def current(engine: Engine) -> dict[str, bytes]:
    """The envelope that each device's order topic shall retain."""
    newest = and_(IssuedOrder.device == Device.id, IssuedOrder.counter == Device.issued_counter)
    with reading(engine) as connection:
        return {
            row.device: row.envelope
            for row in connection.execute(select(IssuedOrder.device, IssuedOrder.envelope).join(Device, newest).where(_TAKES_PART))
        }


def issue(fleet: Fleet, now: datetime) -> list[str]:
    """Bring every device's order up to its desired state and publish what is new; returns the devices concerned."""
    keyid = fleet.signer.keyid()
    with reading(fleet.engine) as connection:
        adopts = _adoptions(connection)
        stale = [row.id for row in connection.execute(_desired()) if _is_stale(row, keyid, now)]
    if not adopts and not stale:
        return []
    with writing(fleet.engine) as connection:
        _adopt(connection, adopts)
        due = [row for row in connection.execute(_desired().with_for_update(of=Device)) if _is_stale(row, keyid, now)]
        signed = {row.id: _renew(connection, fleet, row, now) for row in due}
    for device, envelope in signed.items():
        fleet.link.publish_order(device, envelope)
    return [*signed]


def campaign_id(finding: int) -> str:
    return f"drift-{finding}"


def _adoptions(connection: Connection) -> dict[str, Row]:
    """By task, the newest rollout that went to everyone: what a device that nothing was ever wanted of shall run."""
    tasks = connection.execute(select(Device.task).where(Device.desired_bundle.is_(None)).distinct()).scalars().all()
    done = (Rollout.everyone, Rollout.shadow.is_(False), Rollout.state == RolloutState.DONE.value)
    found = {}
    for task in tasks:
        newest = select(Rollout.id, Rollout.bundle).where(Rollout.task == task, *done).order_by(Rollout.id.desc()).limit(1)
        row = connection.execute(newest).one_or_none()
        if row is not None:
            found[task] = row
    return found


def _adopt(connection: Connection, adoptions: dict[str, Row]) -> None:
    for task, rollout in adoptions.items():
        waiting = update(Device).where(Device.task == task, Device.desired_bundle.is_(None))
        connection.execute(waiting.values(desired_bundle=rollout.bundle, desired_rollout=rollout.id))


def _desired() -> Select:
    """Each device that shall run something, with its last order (`last_*`), the drift it is to sample for (`finding`), and what shall run beside
    it (`shadow_bundle`).

    A campaign stays in the order until the bundle changes: the device runs it once per id, and one order less is sent.
    """
    last = and_(IssuedOrder.device == Device.id, IssuedOrder.counter == Device.issued_counter)
    drifted = and_(Finding.device == Device.id, Finding.bundle == Device.desired_bundle, Finding.state != FindingState.CLOSED.value)
    columns = (
        *Device.__table__.columns,
        IssuedOrder.bundle.label("last_bundle"),
        IssuedOrder.rollout.label("last_rollout"),
        IssuedOrder.campaign.label("last_campaign"),
        IssuedOrder.not_after.label("last_not_after"),
        IssuedOrder.signed_by.label("last_signed_by"),
        Finding.id.label("finding"),
        Rollout.bundle.label("shadow_bundle"),
    )
    beside = Rollout.id == Device.shadow_rollout
    joined = select(*columns).outerjoin(IssuedOrder, last).outerjoin(Finding, drifted).outerjoin(Rollout, beside)
    return joined.where(Device.desired_bundle.is_not(None), _TAKES_PART).order_by(Device.id)


def _is_stale(row: Row, keyid: str, now: datetime) -> bool:
    if row.last_not_after is None or now >= row.last_not_after - RENEW_BEFORE or row.last_signed_by != keyid:
        return True
    if counters.is_behind(row.issued_counter, row.order_counter):  # this database was restored from an older copy
        return True
    return (row.last_bundle, row.last_rollout, row.last_campaign) != (*_wanted(row), _campaign(row))


def _wanted(row: Row) -> tuple[str, int | None]:
    """The bundle that the order names, and its rollout: no rollout is a shadow here and plain there, so that together they say which it is."""
    return (row.desired_bundle, row.desired_rollout) if row.shadow_bundle is None else (row.shadow_bundle, row.shadow_rollout)


def _campaign(row: Row) -> str | None:
    return None if row.finding is None else campaign_id(row.finding)


def _renew(connection: Connection, fleet: Fleet, device: Row, now: datetime) -> bytes:
    order = _order(connection, fleet, device, counters.following(device.issued_counter, device.order_counter), now)
    envelope = fleet.signer.sign(order)
    _store(connection, order, envelope, fleet.signer.keyid(), _wanted(device)[1], now)
    return envelope


def _order(connection: Connection, fleet: Fleet, device: Row, counter: int, now: datetime) -> Order:
    campaign, (wanted, rollout) = _campaign(device), _wanted(device)
    bundle = bundles.find(connection, wanted)
    sampling = None
    if campaign is not None:
        policy = bundles.policy_of(connection, device.desired_bundle).sampling
        sampling = SamplingCampaign(id=campaign, max_items=policy.max_items, max_bytes=policy.max_bytes)
    return Order(
        device=device.id,
        profile=device.profile,
        counter=counter,
        issued_at=now,
        not_after=now + LIFETIME,
        target_path=bundle.target_path,
        sha256=bundle.sha256,
        length=bundle.length,
        rollout=None if rollout is None else str(rollout),
        sampling=sampling,
        transport=fleet.transport or msgspec.UNSET,
        shadow=device.shadow_bundle is not None or msgspec.UNSET,
    )


def _store(connection: Connection, order: Order, envelope: bytes, keyid: str, rollout: int | None, now: datetime) -> None:
    campaign = order.sampling.id if order.sampling else None
    row = {"device": order.device, "counter": order.counter, "bundle": order.sha256, "rollout": rollout, "campaign": campaign}
    signed = {"issued_at": now, "not_after": order.not_after, "envelope": envelope, "signed_by": keyid}
    connection.execute(insert(IssuedOrder).values(**row, **signed))
    connection.execute(update(Device).where(Device.id == order.device).values(issued_counter=order.counter))
    detail = {"counter": order.counter, "bundle": order.sha256, "rollout": rollout, "campaign": campaign}
    audit.append(connection, audit.SERVER, "order.issue", order.device, detail, now)
