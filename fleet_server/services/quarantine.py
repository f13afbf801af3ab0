"""Devices set apart: their key is in two hands, or a person says so. No orders, no acknowledgements, no files, until a person releases them."""

import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from fleet_server.domain import holders
from fleet_server.domain.holders import Holders, Reason
from fleet_server.errors import Conflict, NotFound
from fleet_server.services import audit
from fleet_server.tables.certificate import Certificate
from fleet_server.tables.database import insert_new, reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.device_instance import DeviceInstance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Excluded:
    """Whom a broker of ours keeps out: devices by id, certificates by serial number."""

    devices: frozenset[str] = frozenset()
    serials: frozenset[int] = frozenset()


def excluded(engine: Engine) -> Excluded:
    with reading(engine) as connection:
        devices = connection.execute(select(Device.id).where(Device.quarantined_at.is_not(None))).scalars()
        serials = connection.execute(select(Certificate.serial).where(Certificate.revoked_at.is_not(None))).scalars()
        return Excluded(frozenset(devices), frozenset(int(serial, 16) for serial in serials))


def look(connection: Connection, device: Row, instance: str, at: datetime) -> bool:
    """Take note of which instance speaks for the device; whether that quarantined it. `device` is its row, held by this transaction."""
    if instance == device.instance:
        return False
    known = select(DeviceInstance).where(DeviceInstance.device == device.id)
    before = Holders(device.instance, {row.instance: row.left_at for row in connection.execute(known)})
    after, reason = holders.see(before, instance, at)
    connection.execute(delete(DeviceInstance).where(DeviceInstance.device == device.id, DeviceInstance.left_at < at - holders.WINDOW))
    if device.instance is not None:
        gone = insert_new(connection, DeviceInstance).values(device=device.id, instance=device.instance, left_at=at)
        connection.execute(gone)
    connection.execute(update(Device).where(Device.id == device.id).values(instance=after.current))
    if reason is not None:
        _set_apart(connection, device.id, reason.value, audit.SERVER, at)
    return reason is not None


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
        clear = {"quarantined_at": None, "quarantine_reason": None, "instance": None}
        connection.execute(update(Device).where(Device.id == device).values(**clear))
        audit.append(connection, by, "device.release", device, {"reason": row.quarantine_reason}, now)


def replace_certificate(connection: Connection, device: str, serial: int, now: datetime) -> None:
    """From now on this one speaks for the device; those before it are revoked."""
    before = update(Certificate).where(Certificate.device == device, Certificate.revoked_at.is_(None))
    connection.execute(before.values(revoked_at=now))
    connection.execute(insert(Certificate).values(serial=f"{serial:x}", device=device, issued_at=now))


def _held(connection: Connection, device: str) -> Row:
    row = connection.execute(select(Device).where(Device.id == device).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no device {device!r}", field="device")
    return row


def _set_apart(connection: Connection, device: str, reason: str, by: str, at: datetime) -> None:
    log.warning("device %s is quarantined: %s", device, reason)
    apart = update(Device).where(Device.id == device)
    connection.execute(apart.values(quarantined_at=at, quarantine_reason=reason, online=False))
    audit.append(connection, by, "device.quarantine", device, {"reason": reason}, at)
