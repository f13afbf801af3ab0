"""What devices measured of the bundles that they installed."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, select

from firmware_profiles import catalog
from fleet_contract.messages import Event
from fleet_server.domain import measurements as domain
from fleet_server.domain.measurements import Summary
from fleet_server.errors import NotFound
from fleet_server.services import bundles
from fleet_server.tables.database import reading, upsert
from fleet_server.tables.device import Device
from fleet_server.tables.measurement import Measurement

_KEYS = ["device", "bundle", "variant", "backend"]
_VALUES = [column.name for column in Measurement.__table__.columns if column.name not in _KEYS]


def note(connection: Connection, device: str, events: Iterable[Event]) -> None:
    """Keep what these events tell of measurements, in place of what the device told before of the same."""
    rows = {}
    for event in events:
        measured = domain.read(event)
        if measured is not None:
            row = _row(device, event.at, measured)
            rows[tuple(row[key] for key in _KEYS)] = row
    if rows:
        keep = upsert(connection, Measurement, _KEYS, {name: lambda refused, name=name: refused[name] for name in _VALUES})
        connection.execute(keep, list(rows.values()))


def of_bundle(engine: Engine, sha256: str) -> list[Summary]:
    """Raises NotFound."""
    with reading(engine) as connection:
        bundles.find(connection, sha256)
        return domain.summarise(connection.execute(_wanted().where(Measurement.bundle == sha256)))


def of_profile(engine: Engine, profile: str, *, after: str, limit: int) -> list[Summary]:
    """Of the first `limit` bundles by digest above `after`. Raises NotFound for a name that no profile and no device has."""
    on_profile = Device.profile == profile
    with reading(engine) as connection:
        if profile not in catalog.names() and connection.execute(select(Device.id).where(on_profile).limit(1)).first() is None:
            raise NotFound(f"there is no hardware profile {profile!r}", field="profile")
        measured = select(Measurement.bundle).distinct().join(Device, Device.id == Measurement.device).where(on_profile)
        page = measured.where(Measurement.bundle > after).order_by(Measurement.bundle).limit(limit)
        digests = list(connection.execute(page).scalars())
        return domain.summarise(connection.execute(_wanted().where(on_profile, Measurement.bundle.in_(digests))))


def _wanted() -> Any:
    return select(Measurement, Device.profile).join(Device, Device.id == Measurement.device)


def _row(device: str, at: datetime, measured: domain.Measured) -> dict[str, Any]:
    return {"device": device, "at": at, **msgspec.structs.asdict(measured)}
