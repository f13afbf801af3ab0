"""A real server with thousands of devices that it knows already: enrolment is not what is measured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, func, insert, select

from fleet_server import founding, settings
from fleet_server.inbox import sql
from fleet_server.inbox.sql import SqlInbox
from fleet_server.tables import database
from fleet_server.tables.certificate import Certificate
from fleet_server.tables.device import Device
from fleet_server.tables.lake import LakeFile
from fleet_server.tables.stream import Stream
from fleet_server.trust.device_ca import DeviceCa
from hil.server import ServerRig
from hil.virtual_fleet.identities import Belonging, Identities, device_names, new_key

_TOLD = 250
PROFILE, TASK = "generic-x86-64", "virtual"


@dataclass(frozen=True)
class Stage:
    rig: ServerRig
    identities: Identities
    devices: list[str]
    log: Path
    engine: Engine
    inbox: SqlInbox

    def online(self, since: datetime) -> int:
        """Devices whose word of being there has been taken in since then."""
        with database.reading(self.engine) as connection:
            there = select(func.count()).select_from(Device).where(Device.online, Device.last_seen >= since)
            return connection.execute(there).scalar_one()

    def waiting(self) -> int:
        """Messages that are acknowledged and not decoded."""
        return self.inbox.backlog().messages

    def ledger(self) -> list[dict]:
        """As GET /v1/ledger has it, without its pages."""
        with database.reading(self.engine) as connection:
            rows = connection.execute(select(Stream.device, Stream.epoch, Stream.lane, Stream.stored))
            return [dict(row) for row in rows.mappings()]

    def listed(self) -> list[str]:
        """The lake's files that count."""
        with database.reading(self.engine) as connection:
            paths = connection.execute(select(LakeFile.path).where(LakeFile.gone_at.is_(None))).scalars()
            return [str(self.rig.home / "lake" / path) for path in paths]


@contextmanager
def running(folder: Path, count: int, *, database_url: str | None, workers: int, tell: Callable[[str], None]) -> Iterator[Stage]:
    """Raises RigError."""
    rig = ServerRig(folder / "server", folder / "keys", folder / "logs")
    folder.mkdir(parents=True, exist_ok=True)
    rig.initialise("bench", ["--database-url", database_url] if database_url else [])
    chosen = settings.load(rig.home)
    settings.save(rig.home, settings.override(chosen, {}, {"ingest_workers": workers}))
    identities, devices = Identities(folder / "identities"), device_names(count)
    engine = database.connect(founding.database_url(rig.home, chosen))
    try:
        _enrol(DeviceCa(rig.home / "ca", chosen.fleet, lambda: datetime.now(UTC)), engine, identities, devices, tell)
        tell("starting the server")
        state = rig.start(broker="mosquitto", tasks=[])
        identities.describe(Belonging(state.https_url, state.broker_url, PROFILE, TASK, []))
        inbox = sql.open_beside(engine, rig.home)
        try:
            yield Stage(rig, identities, devices, folder / "logs" / "fleet.log", engine, inbox)
        finally:
            inbox.engine.dispose()
    finally:
        rig.close()
        engine.dispose()


def _enrol(authority: DeviceCa, engine: Engine, identities: Identities, devices: list[str], tell: Callable[[str], None]) -> None:
    """As services.enrolment would, in one transaction."""
    now = datetime.now(UTC)
    identities.prepare(authority.ca_pem().encode())
    serials = {}
    for number, device in enumerate(devices):
        if number % _TOLD == 0:
            tell(f"{number:,} of {len(devices):,} devices enrolled")
        key_pem, request = new_key(device)
        certificate = authority.issue(request, device)
        identities.keep(device, key_pem, certificate)
        serials[device] = f"{authority.serial(certificate):x}"
    with database.writing(engine) as connection:
        rows = [Device(id=device, profile=PROFILE, task=TASK, enrolled_at=now).model_dump() for device in devices]
        connection.execute(insert(Device), rows)
        connection.execute(insert(Certificate), [{"serial": serials[each], "device": each, "issued_at": now} for each in devices])
