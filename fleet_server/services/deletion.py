"""Deleting a device and its data: rows at once, in one transaction; then, as often as it takes, what lies in files and what the broker retains."""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, delete, insert, select, update

from fleet_server.errors import Conflict, NotFound, Unavailable
from fleet_server.fleet import Fleet
from fleet_server.services import audit
from fleet_server.tables.alert import Alert
from fleet_server.tables.certificate import Certificate
from fleet_server.tables.database import reading, writing
from fleet_server.tables.deletion import Deletion, RevokedCertificate
from fleet_server.tables.device import Device
from fleet_server.tables.device_instance import DeviceInstance
from fleet_server.tables.enrolment_token import EnrolmentToken
from fleet_server.tables.event import Event
from fleet_server.tables.finding import Finding
from fleet_server.tables.measurement import Measurement
from fleet_server.tables.minutes import Minute, Series
from fleet_server.tables.order import IssuedOrder
from fleet_server.tables.rollout import RolloutDevice
from fleet_server.tables.sample import Label, Sample
from fleet_server.tables.stream import MalformedRecord, Stream
from fleet_server.tables.tally import Tally
from fleet_server.tables.trace import Trace
from fleet_server.tables.window import Window

log = logging.getLogger(__name__)

_SHUT_OUT = timedelta(seconds=10)
"""After so long the broker knows that the device may publish nothing."""
_OF_STREAMS = (Event, Window, Sample, MalformedRecord)
_OF_THE_DEVICE = (Stream, Series, Tally, Trace, Alert, Finding, Measurement, RolloutDevice, IssuedOrder, DeviceInstance, Certificate)


def begin(fleet: Fleet, device: str, *, by: str, now: datetime) -> Row:
    """Delete a device with every row of it; its certificates are revoked and it is not known any more. Returns its row of deletions, which says what
    is left to do. Raises NotFound."""
    with writing(fleet.engine) as connection:
        if connection.execute(select(Device.id).where(Device.id == device).with_for_update()).first() is None:
            raise NotFound(f"there is no device {device!r}", field="device")
        _note(connection, device, by, now)
        deleted = _delete_rows(connection, device)
        audit.append(connection, by, "device.delete", device, {"rows": deleted}, now)
        row = _row(connection, device)
    fleet.wake()
    return row


def check_gone(connection: Connection, device: str) -> None:
    """Raises Conflict while something of a deleted device of this name is left: what a new one records would be deleted with it."""
    row = _row(connection, device)
    if row is not None and row.done_at is None:
        raise Conflict(f"device {device!r} is being deleted: wait until its data is gone", field="device_id", code="being-deleted")


def newest(engine: Engine, limit: int) -> list[Row]:
    """Newest first."""
    with reading(engine) as connection:
        return list(connection.execute(select(Deletion).order_by(Deletion.asked_at.desc(), Deletion.device).limit(limit)))


def clear(fleet: Fleet, now: datetime) -> int:
    """Have the broker forget what it retains, once deleted devices cannot write it again; of how many."""
    with reading(fleet.engine) as connection:
        waiting = select(Deletion.device).where(Deletion.cleared_at.is_(None), Deletion.asked_at < now - _SHUT_OUT)
        devices = list(connection.execute(waiting).scalars())
    try:
        for device in devices:
            fleet.link.forget(device)
    except Unavailable as error:
        log.info("deleted devices are not forgotten by the broker yet: %s", error)
        return 0
    if devices:
        with writing(fleet.engine) as connection:
            connection.execute(update(Deletion).where(Deletion.device.in_(devices)).values(cleared_at=now))
    return len(devices)


def pending(engine: Engine) -> list[str]:
    """The deleted devices of which the lake or the samples' folder may hold something."""
    with reading(engine) as connection:
        return list(connection.execute(select(Deletion.device).where(Deletion.done_at.is_(None)).order_by(Deletion.asked_at)).scalars())


def finish(engine: Engine, home: Path, device: str, now: datetime, *, lake_rows: int) -> None:
    """The lake has forgotten `lake_rows` of the device: delete its samples' files too, those that are nobody else's, with the copies that jobs were
    given. For the one process that writes samples. Raises OSError: then it is to be done again."""
    with reading(engine) as connection:
        row = _row(connection, device)
        found = {} if row is None else {digest: None for _, digest in row.samples}
        shared = set(connection.execute(select(Sample.sha256).where(Sample.sha256.in_(found))).scalars())
    if row is None:
        return
    files = [home / "samples" / digest for digest in found if digest not in shared]
    for file in (*files, *_copies(home, {sample for sample, _ in row.samples})):
        file.unlink(missing_ok=True)
    with writing(engine) as connection:
        connection.execute(update(Deletion).where(Deletion.device == device).values(done_at=now, samples=[]))
        detail = {"inferences": lake_rows, "files": len(files)}
        audit.append(connection, audit.SERVER, "device.forget", device, detail, now)


def _note(connection: Connection, device: str, by: str, now: datetime) -> None:
    serials = connection.execute(select(Certificate.serial).where(Certificate.device == device)).scalars().all()
    if serials:
        connection.execute(insert(RevokedCertificate), [{"serial": serial, "device": device, "revoked_at": now} for serial in serials])
    samples = [[row.id, row.sha256] for row in connection.execute(select(Sample.id, Sample.sha256).where(Sample.device == device))]
    connection.execute(delete(Deletion).where(Deletion.device == device))
    connection.execute(insert(Deletion).values(device=device, asked_at=now, asked_by=by, samples=samples))


def _delete_rows(connection: Connection, device: str) -> dict[str, int]:
    """How many, by table; what stands on other rows goes before them."""
    streams = select(Stream.id).where(Stream.device == device)
    series = select(Series.id).where(Series.device == device)
    samples = select(Sample.id).where(Sample.device == device)
    deleted: Counter[str] = Counter()
    for table, condition in (
        (Label, Label.sample.in_(samples)),
        *((table, table.stream.in_(streams)) for table in _OF_STREAMS),
        (Minute, Minute.series.in_(series)),
        *((table, table.device == device) for table in _OF_THE_DEVICE),
        (EnrolmentToken, EnrolmentToken.device_id == device),
        (Device, Device.id == device),
    ):
        deleted[table.__tablename__] += connection.execute(delete(table).where(condition)).rowcount
    return {name: count for name, count in deleted.items() if count}


def _copies(home: Path, samples: set[int]) -> Iterator[Path]:
    """Jobs name their copies by the sample's number."""
    return (file for file in (home / "jobs").glob("*/samples/*") if file.stem.isdigit() and int(file.stem) in samples)


def _row(connection: Connection, device: str) -> Any:
    wanted: Select = select(Deletion).where(Deletion.device == device)
    return connection.execute(wanted).one_or_none()
