"""Making a fleet server's home: its CA, online keys, database and first admin token, and for trying out a root of trust too; all of it or nothing.
And the files of a broker that runs elsewhere."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from fleet_server.trust import device_ca, trial
from fleet_server.trust.keys import OnlineKeys
from fleet_server.trust.repository import TufRepository

_FOLDERS = ("samples", "jobs", "broker", "run")
_NOT_ROOT = -1


@dataclass(frozen=True)
class Listening:
    """Where a broker elsewhere is reached, and what it binds."""

    hosts: tuple[str, ...]
    address: str
    port: int


def found(home: Path, offline: Path | None, settings: Settings, clock: Callable[[], datetime]) -> str:
    """Make `home`; returns the admin token, which is kept nowhere. With `offline` the ceremony is held at once, and leaves its unencrypted keys
    there; without, the key holders hold it, and its result is installed. Raises Conflict when either is in use."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise Conflict(f"{home} is not empty; choose another --home (nothing is ever overwritten)", field="home")
    if offline and (home == offline or home in offline.parents or offline in home.parents):
        raise BadRequest("the offline keys must not lie in the server's home, nor the home among them: choose another --keys", field="keys")
    return _build(home, offline, settings, clock)


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


def _build(home: Path, offline: Path | None, settings: Settings, clock: Callable[[], datetime]) -> str:
    """Everything is made beside `home`, which appears in one rename."""
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}."))
    try:
        device_ca.create(draft / "ca", settings.fleet, clock).renew_own(settings.own_hosts)
        OnlineKeys(draft / "keys").create(settings.fleet)
        for name in _FOLDERS:
            make_folder(draft / name, 0o700)
        token = _prepare_database(draft, settings, clock())
        server_settings.save(draft, settings)
        with _trial(draft, offline, clock):
            draft.rename(home)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return token


@contextmanager
def _trial(draft: Path, offline: Path | None, clock: Callable[[], datetime]) -> Iterator[None]:
    """The offline keys stay only if what is done inside succeeds."""
    if offline is None:
        yield
        return
    with tempfile.TemporaryDirectory(dir=draft.parent, prefix=".ceremony.") as folder:
        files = trial.hold(OnlineKeys(draft / "keys").online_json, offline, Path(folder))
    try:
        TufRepository(draft / "tuf", draft / "keys", clock).install(files)
        yield
    except BaseException:
        trial.undo(offline)
        raise


def _prepare_database(home: Path, settings: Settings, now: datetime) -> str:
    engine = database.connect(database_url(home, settings))
    try:
        database.migrate(engine)
        return tokens.create(engine, "admin", by="init", now=now, new_secret=secrets.token_urlsafe)
    finally:
        engine.dispose()
