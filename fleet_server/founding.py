"""Making a fleet server's home: its CA, keys, TUF repository, database and first admin token; all of it or nothing.
And the files of a broker that runs elsewhere."""

import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet_server import settings as server_settings
from fleet_server.errors import BadRequest, Conflict
from fleet_server.mqtt import mosquitto
from fleet_server.mqtt.listener import Listener
from fleet_server.services import tokens
from fleet_server.settings import Settings
from fleet_server.storage import make_folder
from fleet_server.tables import database
from fleet_server.trust import device_ca, genesis, keys

_FOLDERS = ("samples", "jobs", "broker", "run")
_NOT_ROOT = -1


@dataclass(frozen=True)
class Listening:
    """Where a broker elsewhere is reached, and what it binds."""

    hosts: tuple[str, ...]
    address: str
    port: int


def found(home: Path, offline: Path, settings: Settings, clock: Callable[[], datetime]) -> str:
    """Make `home`, and the offline keys in `offline`; returns the admin token, which is kept nowhere. Raises Conflict when either is in use."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise Conflict(f"{home} is not empty; choose another --home (nothing is ever overwritten)", field="home")
    if home == offline or home in offline.parents or offline in home.parents:
        raise BadRequest("the offline keys must not lie in the server's home, nor the home among them: choose another --keys", field="keys")
    keys.create(offline, keys.OFFLINE)
    try:
        return _build(home, offline, settings, clock)
    except BaseException:
        for name in keys.OFFLINE:
            (offline / f"{name}.pem").unlink(missing_ok=True)
        raise


def make_broker_files(home: Path, fleet: str, out: Path, listening: Listening, clock: Callable[[], datetime]) -> Path:
    """Fill the new folder `out` with what a Mosquitto of the fleet needs, to run as a user who owns the folder. Raises Conflict, BadRequest."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} is not empty; choose another --out (nothing is ever overwritten)", field="out")
    for host in listening.hosts:
        server_settings.check(Settings(host=host))
    authority = device_ca.DeviceCa(home / "ca", fleet, clock)
    make_folder(out, 0o700)
    authority.certify_broker(out, listening.hosts)
    ca, certificate, key = (str(out / name) for name in ("ca.pem", "broker.pem", "broker.key"))
    mosquitto.configure(Listener(listening.address, listening.port, ca, certificate, key, str(out)), _NOT_ROOT)
    return out


def database_url(home: Path, settings: Settings) -> str:
    return settings.database_url or database.sqlite_url(home / "fleet.db")


def _build(home: Path, offline: Path, settings: Settings, clock: Callable[[], datetime]) -> str:
    """Everything is made beside `home`, which appears in one rename."""
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}."))
    try:
        device_ca.create(draft / "ca", settings.fleet, clock).renew_own(settings.own_hosts)
        keys.create(draft / "keys", keys.ONLINE)
        genesis.create(draft / "tuf", offline, draft / "keys", clock())
        for name in _FOLDERS:
            make_folder(draft / name, 0o700)
        token = _prepare_database(draft, settings, clock())
        server_settings.save(draft, settings)
        draft.rename(home)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return token


def _prepare_database(home: Path, settings: Settings, now: datetime) -> str:
    engine = database.connect(database_url(home, settings))
    try:
        database.migrate(engine)
        return tokens.create(engine, "admin", by="init", now=now, new_secret=secrets.token_urlsafe)
    finally:
        engine.dispose()
