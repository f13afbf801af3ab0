"""What an ingest worker on another machine needs: a folder that stands for the server's home there."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from fleet_contract import limits
from fleet_contract.broker import parse_url
from fleet_server import running, settings
from fleet_server.errors import BadRequest, Conflict
from fleet_server.settings import BROKERS, Settings
from fleet_server.storage import make_folder, write_atomic
from fleet_server.trust.device_ca import WORKER_IDENTITIES, DeviceCa


def check_number(number: int) -> int:
    """Raises BadRequest."""
    if not 1 <= number <= limits.MAX_INGEST_WORKERS_COUNT:
        most = limits.MAX_INGEST_WORKERS_COUNT
        raise BadRequest(f"number {number} must be 1 to {most}, and one that no other worker has", field="number", limit=most)
    return number


def certify(home: Path, fleet: str, number: int, clock: Callable[[], datetime]) -> None:
    """Where the CA's key is, the worker's certificate is made or renewed; elsewhere it must lie there."""
    if (home / "ca" / "ca.key").exists():
        DeviceCa(home / "ca", fleet, clock).renew_worker(check_number(number))


def broker_url(home: Path, chosen: Settings) -> str:
    """Of the broker that is set, or of the one that the server of this home runs just now. Raises BadRequest."""
    if chosen.broker not in BROKERS:
        parse_url(chosen.broker)
        return chosen.broker
    state = running.read_state(home)
    if state is None:
        raise BadRequest(f"no server runs on {home}: name the broker with --broker mqtts://host:port", field="broker")
    return state.broker_url


def make_files(home: Path, chosen: Settings, number: int, out: Path, clock: Callable[[], datetime]) -> Path:
    """Fill the new folder `out`; `chosen` names broker and database as the other machine reaches them. Raises BadRequest, Conflict."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} is not empty; choose another --out (nothing is ever overwritten)", field="out")
    if chosen.broker in BROKERS:
        raise BadRequest("name the broker as the other machine reaches it: --broker mqtts://host:port", field="broker")
    if chosen.database_url is None or chosen.database_url.startswith("sqlite"):
        raise BadRequest("workers on other machines need PostgreSQL: --database-url postgresql+psycopg://...", field="database_url")
    certify(home, chosen.fleet, number, clock)
    make_folder(make_folder(out, 0o700) / "ca", 0o700)
    name = WORKER_IDENTITIES[number - 1]
    for file, mode in (("ca.pem", 0o644), (f"{name}.pem", 0o644), (f"{name}.key", 0o600)):
        write_atomic(out / "ca" / file, (home / "ca" / file).read_bytes(), mode)
    kept = Settings(fleet=chosen.fleet, broker=chosen.broker, database_url=chosen.database_url)
    settings.save(out, msgspec.structs.replace(kept, inbox_max_bytes=chosen.inbox_max_bytes, inbox_max_age_s=chosen.inbox_max_age_s))
    return out
