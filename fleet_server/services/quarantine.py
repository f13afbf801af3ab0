"""Devices set apart: their key is in two hands, they flood again and again, or a person says so. No orders, no acknowledgements, no files, until a
person releases them; or, of a device that floods, until its break is over. What they record waits on them."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, bindparam, delete, insert, or_, select, union_all, update

from fleet_server.domain import flood, holders
from fleet_server.domain.alerts import Kind
from fleet_server.domain.holders import Holders, Reason
from fleet_server.errors import Conflict, NotFound
from fleet_server.services import alerts, audit
from fleet_server.services.alerts import Trouble
from fleet_server.tables.alert import Alert
from fleet_server.tables.bulk import rows_of
from fleet_server.tables.certificate import Certificate
from fleet_server.tables.database import reading, upsert, writing
from fleet_server.tables.deletion import Deletion, RevokedCertificate
from fleet_server.tables.device import Device
from fleet_server.tables.device_instance import DeviceInstance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Excluded:
    """Whom a broker of ours keeps out: devices by id, certificates by serial number."""

    devices: frozenset[str] = frozenset()
    serials: frozenset[int] = frozenset()


def excluded(engine: Engine, now: datetime) -> Excluded:
    with reading(engine) as connection:
        revoked = select(Certificate.serial).where(Certificate.revoked_at.is_not(None))
        serials = connection.execute(union_all(revoked, select(RevokedCertificate.serial))).scalars()
        return Excluded(_kept_out(connection, now), frozenset(int(serial, 16) for serial in serials))


def kept_out(engine: Engine, now: datetime) -> frozenset[str]:
    """`excluded`, without the certificates."""
    with reading(engine) as connection:
        return _kept_out(connection, now)


def look(connection: Connection, spoken: Sequence[tuple[Row, Sequence[tuple[str, datetime]]]]) -> frozenset[str]:
    """Take note of which instances spoke for devices, and when; returns those devices that this quarantined. Each has its row, held by this
    transaction."""
    changed = {row.id: (row, said) for row, said in spoken if any(instance != row.instance for instance, _ in said)}
    if not changed:
        return frozenset()
    left: dict[str, dict[str, datetime]] = {}
    for row in connection.execute(select(DeviceInstance).where(DeviceInstance.device.in_(changed))):
        left.setdefault(row.device, {})[row.instance] = row.left_at
    found = {device: _see(Holders(row.instance, left.get(device, {})), said) for device, (row, said) in changed.items()}
    _remember(connection, {device: after for device, (after, _) in found.items()}, left)
    apart = {device: reason for device, (_, reason) in found.items() if reason is not None}
    for device, reason in apart.items():
        _set_apart(connection, device, reason.value, audit.SERVER, changed[device][1][-1][1])
    return frozenset(apart)


def _see(known: Holders, said: Sequence[tuple[str, datetime]]) -> tuple[Holders, Reason | None]:
    reason = None
    for instance, at in said:
        known, why = holders.see(known, instance, at)
        reason = reason or why
    return known, reason


def _remember(connection: Connection, after: dict[str, Holders], left: dict[str, dict[str, datetime]]) -> None:
    forgotten = {device: [*left[device].keys() - after[device].left.keys()] for device in left}
    for device, instances in forgotten.items():
        if instances:
            gone = (DeviceInstance.device == device, DeviceInstance.instance.in_(instances))
            connection.execute(delete(DeviceInstance).where(*gone))
    new = [
        {"device": device, "instance": instance, "left_at": at}
        for device, known in after.items()
        for instance, at in known.left.items()
        if left.get(device, {}).get(instance) != at
    ]
    if new:
        newest = upsert(connection, DeviceInstance, ["device", "instance"], {"left_at": lambda refused: refused.left_at})
        connection.execute(newest, new)
    current = [{"key": device, "instance": known.current} for device, known in after.items()]
    connection.execute(update(Device.__table__).where(Device.__table__.c.id == bindparam("key")), current)


def hold(connection: Connection, devices: Collection[str]) -> None:
    """Before anything else that this transaction writes, as who takes in statuses does: their rows, in the order of their ids."""
    if devices:
        rows_of(connection, select(Device.id).order_by(Device.id).with_for_update(key_share=True), Device.id, devices)


def impose_twin(connection: Connection, device: str, why: str, at: datetime) -> None:
    """What the device sends cannot come from one device: acknowledging it would delete what another recorded. Once is enough."""
    _accuse(connection, Trouble(Kind.TWIN_RECORDS, device, detail={"why": why}), Reason.TWIN_RECORDS, at)


def impose_epochs(connection: Connection, device: str, at: datetime) -> None:
    """The device begins one outbox after the other: each has rows of its own here, for ever."""
    _accuse(connection, Trouble(Kind.TOO_MANY_EPOCHS, device), Reason.TOO_MANY_EPOCHS, at)


def throttle(engine: Engine, device: str, now: datetime) -> datetime | None:
    """The device floods: it is kept out until the time returned, None: until a person releases it. Nothing changes for one that is kept out
    already. Raises NotFound."""
    with writing(engine) as connection:
        row = _held(connection, device)
        if row.quarantined_at is not None or (row.throttled_until or now) > now:
            return row.throttled_until
        given = flood.sentence(row.throttles, row.throttled_until, now)
        connection.execute(update(Device).where(Device.id == device).values(throttled_until=given.until, throttles=given.times))
        alerts.raise_(connection, [Trouble(Kind.FLOOD, device, detail={"times": given.times})], now)
        if given.until is None:
            _set_apart(connection, device, Reason.FLOOD.value, audit.SERVER, now)
        else:
            audit.append(connection, audit.SERVER, "device.throttle", device, {"until": given.until.isoformat(), "times": given.times}, now)
    return given.until


def end_breaks(engine: Engine, now: datetime) -> int:
    """Close the alerts of devices whose break is over; they may send again. Returns how many."""
    over = select(Device.id).join(Alert, Alert.device == Device.id)
    over = over.where(
        Alert.kind == Kind.FLOOD.value, Alert.closed_at.is_(None), Device.quarantined_at.is_(None), Device.throttled_until <= now
    )
    with reading(engine) as connection:
        free = connection.execute(over).scalars().all()
    if free:
        with writing(engine) as connection:
            alerts.settle(connection, alerts.open_of(connection, free, [Kind.FLOOD]), now)
    return len(free)


def impose(engine: Engine, device: str, *, by: str, now: datetime) -> None:
    """A person sets a device apart. Raises NotFound, or Conflict when it is already."""
    with writing(engine) as connection:
        if _held(connection, device).quarantined_at is not None:
            raise Conflict(f"device {device!r} is quarantined already", field="device")
        _set_apart(connection, device, Reason.BY_HAND.value, by, now)


def release(engine: Engine, device: str, *, by: str, now: datetime) -> None:
    """Let a device take part again, with no memory of who held its key. Raises NotFound, or Conflict when it is not quarantined."""
    with writing(engine) as connection:
        row = _held(connection, device)
        if row.quarantined_at is None:
            raise Conflict(f"device {device!r} is not quarantined", field="device")
        connection.execute(delete(DeviceInstance).where(DeviceInstance.device == device))
        clear = {"quarantined_at": None, "quarantine_reason": None, "instance": None, "throttled_until": None, "throttles": 0}
        connection.execute(update(Device).where(Device.id == device).values(**clear))
        alerts.settle(connection, alerts.open_of(connection, [device], [Kind.TWIN_RECORDS, Kind.TOO_MANY_EPOCHS, Kind.FLOOD]), now)
        audit.append(connection, by, "device.release", device, {"reason": row.quarantine_reason}, now)


def replace_certificate(connection: Connection, device: str, serial: int, now: datetime) -> None:
    """From now on this one speaks for the device; those before it are revoked."""
    before = update(Certificate).where(Certificate.device == device, Certificate.revoked_at.is_(None))
    connection.execute(before.values(revoked_at=now))
    connection.execute(insert(Certificate).values(serial=f"{serial:x}", device=device, issued_at=now))


def _kept_out(connection: Connection, now: datetime) -> frozenset[str]:
    devices = select(Device.id).where(or_(Device.quarantined_at.is_not(None), Device.throttled_until > now))
    gone = select(Deletion.device).where(Deletion.device.not_in(select(Device.id)))
    return frozenset(connection.execute(union_all(devices, gone)).scalars())


def _held(connection: Connection, device: str) -> Row:
    row = connection.execute(select(Device).where(Device.id == device).with_for_update(key_share=True)).one_or_none()
    if row is None:
        raise NotFound(f"there is no device {device!r}", field="device")
    return row


def _accuse(connection: Connection, trouble: Trouble, reason: Reason, at: datetime) -> None:
    """Whoever is set apart already stays so for the reason that was first."""
    alerts.raise_(connection, [trouble], at)
    if _held(connection, trouble.device).quarantined_at is None:
        _set_apart(connection, trouble.device, reason.value, audit.SERVER, at)


def _set_apart(connection: Connection, device: str, reason: str, by: str, at: datetime) -> None:
    log.warning("device %s is quarantined: %s", device, reason)
    apart = update(Device).where(Device.id == device)
    connection.execute(apart.values(quarantined_at=at, quarantine_reason=reason, online=False))
    audit.append(connection, by, "device.quarantine", device, {"reason": reason}, at)
