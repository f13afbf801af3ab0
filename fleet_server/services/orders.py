"""Orders: desired state, signed. One is issued when what a device shall do has changed, or the last nears its expiry."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Row, and_, insert, select, update

from fleet_contract.order import Order, SamplingCampaign
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


def current(engine: Engine) -> dict[str, bytes]:
    """The envelope that each device's order topic shall retain."""
    newest = and_(IssuedOrder.device == Device.id, IssuedOrder.counter == Device.issued_counter)
    with reading(engine) as connection:
        return {
            row.device: row.envelope for row in connection.execute(select(IssuedOrder.device, IssuedOrder.envelope).join(Device, newest))
        }


def issue(fleet: Fleet, now: datetime) -> list[str]:
    """Bring every device's order up to its desired state and publish what is new; returns the devices concerned."""
    with writing(fleet.engine) as connection:
        _adopt_newcomers(connection)
        rows = list(connection.execute(select(Device).where(Device.desired_bundle.is_not(None)).order_by(Device.id)))
        signed = {row.id: envelope for row in rows if (envelope := _renew(connection, fleet, row, now)) is not None}
    for device, envelope in signed.items():
        fleet.link.publish_order(device, envelope)
    return [*signed]


def campaign_id(finding: int) -> str:
    return f"drift-{finding}"


def _adopt_newcomers(connection: Connection) -> None:
    """A device that nothing was ever wanted of gets the bundle of its task's newest rollout that went to everyone."""
    tasks = connection.execute(select(Device.task).where(Device.desired_bundle.is_(None)).distinct()).scalars().all()
    for task in tasks:
        done = select(Rollout.id, Rollout.bundle).where(Rollout.task == task, Rollout.everyone, Rollout.state == RolloutState.DONE.value)
        newest = connection.execute(done.order_by(Rollout.id.desc()).limit(1)).one_or_none()
        if newest is not None:
            waiting = update(Device).where(Device.task == task, Device.desired_bundle.is_(None))
            connection.execute(waiting.values(desired_bundle=newest.bundle, desired_rollout=newest.id))


def _renew(connection: Connection, fleet: Fleet, device: Row, now: datetime) -> bytes | None:
    finding = _finding(connection, device)
    campaign = campaign_id(finding) if finding is not None else None
    last = connection.execute(
        select(IssuedOrder).where(IssuedOrder.device == device.id, IssuedOrder.counter == device.issued_counter)
    ).one_or_none()
    wanted = (device.desired_bundle, device.desired_rollout, campaign)
    # A device that has seen a higher counter (this database was restored from an older copy) would refuse ours.
    outrun = device.order_counter > device.issued_counter
    if last and not outrun and (last.bundle, last.rollout, last.campaign) == wanted and now < last.not_after - RENEW_BEFORE:
        return None
    order = _order(connection, device, campaign, max(device.issued_counter, device.order_counter) + 1, now)
    envelope = fleet.signer.sign(order)
    _store(connection, order, envelope, device.desired_rollout, now)
    return envelope


def _order(connection: Connection, device: Row, campaign: str | None, counter: int, now: datetime) -> Order:
    bundle = bundles.find(connection, device.desired_bundle)
    sampling = None
    if campaign is not None:
        policy = bundles.manifest_of(bundle).policy.sampling
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
        rollout=None if device.desired_rollout is None else str(device.desired_rollout),
        sampling=sampling,
    )


def _store(connection: Connection, order: Order, envelope: bytes, rollout: int | None, now: datetime) -> None:
    campaign = order.sampling.id if order.sampling else None
    row = {"device": order.device, "counter": order.counter, "bundle": order.sha256, "rollout": rollout, "campaign": campaign}
    connection.execute(insert(IssuedOrder).values(**row, issued_at=now, not_after=order.not_after, envelope=envelope))
    connection.execute(update(Device).where(Device.id == order.device).values(issued_counter=order.counter))
    detail = {"counter": order.counter, "bundle": order.sha256, "rollout": rollout, "campaign": campaign}
    audit.append(connection, audit.SERVER, "order.issue", order.device, detail, now)


def _finding(connection: Connection, device: Row) -> int | None:
    """The drift that the device is asked to sample for. It stays in the order until the bundle changes: a campaign runs once per id."""
    found = select(Finding.id).where(Finding.device == device.id, Finding.bundle == device.desired_bundle)
    return connection.execute(found.where(Finding.state != FindingState.CLOSED.value)).scalars().first()
