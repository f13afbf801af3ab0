"""Orders: desired state, signed. One is issued when what a device shall do has changed, or the last nears its expiry,
or the orders key was replaced."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Engine, Row, Select, String, and_, case, cast, literal, or_, outerjoin, select, update

from fleet_contract.order import Order, SamplingCampaign
from fleet_server.domain import counters
from fleet_server.domain.retraining import FindingState
from fleet_server.domain.rollout import RolloutState
from fleet_server.fleet import Fleet
from fleet_server.ports import OrderKey
from fleet_server.services import audit, bundles
from fleet_server.tables.bulk import add, change, instants
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.finding import Finding
from fleet_server.tables.order import IssuedOrder
from fleet_server.tables.rollout import Rollout

LIFETIME = timedelta(days=30)
RENEW_BEFORE = timedelta(days=10)
_TAKES_PART = Device.quarantined_at.is_(None)
_TOGETHER = 500
"""Orders signed in one transaction."""
_OF_DEVICE = ("id", "profile", "issued_counter", "order_counter", "desired_bundle", "desired_rollout", "shadow_rollout")


def current(engine: Engine) -> dict[str, bytes]:
    """The envelope that each device's order topic shall retain."""
    newest = and_(IssuedOrder.device == Device.id, IssuedOrder.counter == Device.issued_counter)
    with reading(engine) as connection:
        return {
            row.device: row.envelope
            for row in connection.execute(select(IssuedOrder.device, IssuedOrder.envelope).join(Device, newest).where(_TAKES_PART))
        }


def issue(fleet: Fleet, now: datetime) -> list[str]:
    """Bring every device's order up to its desired state and publish what is new; returns the devices concerned. Those signed first are on their
    way while the others are signed."""
    key = fleet.signer.key()
    _adopt(fleet.engine)
    with reading(fleet.engine) as connection:
        candidates = select(Device.id).select_from(_joined()).where(*_DESIRED, _may_be_stale(key.keyid, now)).order_by(Device.id)
        devices = connection.execute(candidates).scalars().all()
    issued: list[str] = []
    for start in range(0, len(devices), _TOGETHER):
        with writing(fleet.engine) as connection:
            rows = connection.execute(_desired(devices[start : start + _TOGETHER]))
            due = [row for row in rows if _is_stale(row, key.keyid, now)]
            signed = _renew(connection, _Office(connection, key, fleet.transport, now), due)
        fleet.link.publish_orders(signed)
        issued += signed
    return issued


def campaign_id(finding: int | str) -> str:
    return f"drift-{finding}"


def _adopt(engine: Engine) -> None:
    """What nothing was ever wanted of shall run the bundle of the newest rollout of its task that went to everyone."""
    with reading(engine) as connection:
        found = _adoptions(connection)
    if found:
        with writing(engine) as connection:
            for task, rollout in found.items():
                waiting = update(Device).where(Device.task == task, Device.desired_bundle.is_(None))
                connection.execute(waiting.values(desired_bundle=rollout.bundle, desired_rollout=rollout.id))


def _adoptions(connection: Connection) -> dict[str, Row]:
    """By task."""
    tasks = connection.execute(select(Device.task).where(Device.desired_bundle.is_(None)).distinct()).scalars().all()
    done = (Rollout.everyone, Rollout.shadow.is_(False), Rollout.state == RolloutState.DONE.value)
    found = {}
    for task in tasks:
        newest = select(Rollout.id, Rollout.bundle).where(Rollout.task == task, *done).order_by(Rollout.id.desc()).limit(1)
        row = connection.execute(newest).one_or_none()
        if row is not None:
            found[task] = row
    return found


_DESIRED = (Device.desired_bundle.is_not(None), _TAKES_PART)


def _joined() -> Any:
    """Each device with its last order, the drift it is to sample for, and the rollout whose bundle shall run beside its own.

    A campaign stays in the order until the bundle changes: the device runs it once per id, and one order less is sent.
    """
    last = and_(IssuedOrder.device == Device.id, IssuedOrder.counter == Device.issued_counter)
    drifted = and_(Finding.device == Device.id, Finding.bundle == Device.desired_bundle, Finding.state != FindingState.CLOSED.value)
    return outerjoin(outerjoin(outerjoin(Device, IssuedOrder, last), Finding, drifted), Rollout, Rollout.id == Device.shadow_rollout)


def _desired(devices: Sequence[str]) -> Select:
    """These devices' rows, held until the transaction ends."""
    columns = (
        *(getattr(Device, name) for name in _OF_DEVICE),
        IssuedOrder.bundle.label("last_bundle"),
        IssuedOrder.rollout.label("last_rollout"),
        IssuedOrder.campaign.label("last_campaign"),
        IssuedOrder.not_after.label("last_not_after"),
        IssuedOrder.signed_by.label("last_signed_by"),
        Finding.id.label("finding"),
        Rollout.bundle.label("shadow_bundle"),
    )
    mine = (*_DESIRED, Device.id.in_(devices))
    return select(*columns).select_from(_joined()).where(*mine).order_by(Device.id).with_for_update(of=Device)


def _may_be_stale(keyid: str, now: datetime) -> Any:
    """`_is_stale` as the database can tell it, so that thousands of devices with good orders are not even read."""
    beside = Rollout.bundle.is_not(None)
    return or_(
        IssuedOrder.not_after.is_(None),
        IssuedOrder.not_after <= now + RENEW_BEFORE,
        IssuedOrder.signed_by.is_distinct_from(keyid),
        Device.order_counter.between(Device.issued_counter + 1, Device.issued_counter + counters.MAX_LEAD),
        IssuedOrder.bundle != case((beside, Rollout.bundle), else_=Device.desired_bundle),
        IssuedOrder.rollout.is_distinct_from(case((beside, Device.shadow_rollout), else_=Device.desired_rollout)),
        IssuedOrder.campaign.is_distinct_from(case((Finding.id.is_not(None), literal(campaign_id("")) + cast(Finding.id, String)))),
    )


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


@dataclass(frozen=True)
class _Office:
    """What all orders of one transaction are made with; each bundle is looked up once."""

    connection: Connection
    key: OrderKey
    transport: Literal["mqtt", "http"] | None
    now: datetime
    bundles: dict[str, Row] = field(default_factory=dict)

    def bundle(self, sha256: str) -> Row:
        if sha256 not in self.bundles:
            self.bundles[sha256] = bundles.find(self.connection, sha256)
        return self.bundles[sha256]

    def order(self, device: Row) -> Order:
        campaign, (wanted, rollout) = _campaign(device), _wanted(device)
        bundle = self.bundle(wanted)
        sampling = None
        if campaign is not None:
            policy = bundles.manifest_of(self.bundle(device.desired_bundle)).policy.sampling
            sampling = SamplingCampaign(id=campaign, max_items=policy.max_items, max_bytes=policy.max_bytes)
        return Order(
            device=device.id,
            profile=device.profile,
            counter=counters.following(device.issued_counter, device.order_counter),
            issued_at=self.now,
            not_after=self.now + LIFETIME,
            target_path=bundle.target_path,
            sha256=bundle.sha256,
            length=bundle.length,
            rollout=None if rollout is None else str(rollout),
            sampling=sampling,
            transport=self.transport or msgspec.UNSET,
            shadow=device.shadow_bundle is not None or msgspec.UNSET,
        )


def _renew(connection: Connection, office: _Office, due: Sequence[Row]) -> dict[str, bytes]:
    """Sign and store an order for each; returns the envelopes by device."""
    signed = [(device, order := office.order(device), office.key.sign(order)) for device in due]
    if not signed:
        return {}
    rows = [_row(order, envelope, _wanted(device)[1], office) for device, order, envelope in signed]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    add(connection, IssuedOrder, columns | {name: instants(connection, columns[name]) for name in ("issued_at", "not_after")})
    newest = {"id": [order.device for _, order, _ in signed], "issued_counter": [order.counter for _, order, _ in signed]}
    change(connection, Device, newest, keys=["id"])
    changes = [(row["device"], {name: row[name] for name in ("counter", "bundle", "rollout", "campaign")}) for row in rows]
    audit.append_all(connection, audit.SERVER, "order.issue", changes, office.now)
    return {order.device: envelope for _, order, envelope in signed}


def _row(order: Order, envelope: bytes, rollout: int | None, office: _Office) -> dict[str, Any]:
    return {
        "device": order.device,
        "counter": order.counter,
        "bundle": order.sha256,
        "rollout": rollout,
        "campaign": order.sampling.id if order.sampling else None,
        "issued_at": office.now,
        "not_after": order.not_after,
        "envelope": envelope,
        "signed_by": office.key.keyid,
    }
