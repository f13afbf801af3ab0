"""A real server with thousands of devices that it knows already: enrolment is not what is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, insert, select

from fleet_server import founding, settings
from fleet_server.tables import database
from fleet_server.tables.certificate import Certificate
from fleet_server.tables.device import Device
from fleet_server.tables.lake import LakeFile
from fleet_server.trust.device_ca import DeviceCa
from hil.client import Client
from hil.server import ServerRig
from hil.virtual_fleet.identities import Belonging, Identities, device_names, new_key

PROFILE, TASK = "generic-x86-64", "virtual"


@dataclass(frozen=True)
class Stage:
    rig: ServerRig
    api: Client
    identities: Identities
    devices: list[str]
    log: Path
    engine: Engine

    def listed(self) -> list[str]:
        """The lake's files that count."""
        with database.reading(self.engine) as connection:
            paths = connection.execute(select(LakeFile.path).where(LakeFile.gone_at.is_(None))).scalars()
            return [str(self.rig.home / "lake" / path) for path in paths]


@contextmanager
def running(folder: Path, count: int, *, database_url: str | None, workers: int) -> Iterator[Stage]:
    """Raises RigError."""
    rig = ServerRig(folder / "server", folder / "keys", folder / "logs")
    folder.mkdir(parents=True, exist_ok=True)
    rig.initialise("bench", ["--database-url", database_url] if database_url else [])
    chosen = settings.load(rig.home)
    settings.save(rig.home, settings.override(chosen, {}, {"ingest_workers": workers}))
    identities, devices = Identities(folder / "identities"), device_names(count)
    engine = database.connect(founding.database_url(rig.home, chosen))
    try:
        _enrol(DeviceCa(rig.home / "ca", chosen.fleet, lambda: datetime.now(UTC)), engine, identities, devices)
        state = rig.start(broker="mosquitto", tasks=[])
        identities.describe(Belonging(state.https_url, state.broker_url, PROFILE, TASK, []))
        with rig.client() as api:
            yield Stage(rig, api, identities, devices, folder / "logs" / "fleet.log", engine)
    finally:
        rig.close()
        engine.dispose()


def _enrol(authority: DeviceCa, engine: Engine, identities: Identities, devices: list[str]) -> None:
    """As services.enrolment would, in one transaction."""
    now = datetime.now(UTC)
    identities.prepare(authority.ca_pem().encode())
    serials = {}
    for device in devices:
        key_pem, request = new_key(device)
        certificate = authority.issue(request, device)
        identities.keep(device, key_pem, certificate)
        serials[device] = f"{authority.serial(certificate):x}"
    with database.writing(engine) as connection:
        rows = [Device(id=device, profile=PROFILE, task=TASK, enrolled_at=now).model_dump() for device in devices]
        connection.execute(insert(Device), rows)
        connection.execute(insert(Certificate), [{"serial": serials[each], "device": each, "issued_at": now} for each in devices])
