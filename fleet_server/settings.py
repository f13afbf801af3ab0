"""How one fleet server is set up: `server.json` in its home, overridden by EDGEFLEET_* variables, overridden by the command line."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fleet_contract import mqtt, names
from fleet_contract.errors import ContractError
from fleet_server.errors import BadRequest, NotFound
from fleet_server.storage import write_atomic

FILE = "server.json"
BROKERS = ("auto", "mosquitto", "embedded")
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_LOOPBACK = ("localhost", "127.0.0.1")
_VARIABLES = {
    "EDGEFLEET_BROKER": "broker",
    "EDGEFLEET_HTTPS_PORT": "https_port",
    "EDGEFLEET_MQTT_PORT": "mqtt_port",
    "EDGEFLEET_DATABASE_URL": "database_url",
    "EDGEFLEET_RELEASES_KEY": "releases_key",
    "EDGEFLEET_ADDRESS": "address",
    "EDGEFLEET_JOB_PYTHON": "job_python",
}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`host` is the name by which devices reach the server; `address` the IP address to listen on, by default loopback for a local host, else all.
    A port of 0 means any free one. `broker` is auto, mosquitto, embedded or the mqtts:// URL of one that runs already.
    `database_url` of None is SQLite in the home. Without `releases_key` (a PEM file) no retraining job can start."""

    fleet: str = "demo"
    host: str = "localhost"
    address: str | None = None
    https_port: int = 8443
    mqtt_port: int = 8883
    broker: str = "auto"
    database_url: str | None = None
    tasks: tuple[str, ...] = ()
    releases_key: str | None = None
    job_python: str | None = None

    @property
    def bind_address(self) -> str:
        return self.address or ("127.0.0.1" if self.host in _LOOPBACK else "0.0.0.0")

    @property
    def url_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """The names in the server's certificate."""
        return tuple(dict.fromkeys(name for name in (*_LOOPBACK, self.host, self.address) if name not in (None, "0.0.0.0")))


def check(settings: Settings) -> Settings:
    """Return `settings` when they can be used. Raises BadRequest naming the field."""
    try:
        names.device_id(settings.fleet)
        if settings.broker not in BROKERS:
            mqtt.parse_url(settings.broker)
    except ContractError as error:
        raise BadRequest(str(error), field="broker" if error.field == "broker" else "fleet", limit=error.limit) from error
    if not _HOST.fullmatch(settings.host):
        raise BadRequest(f"host {settings.host!r} is neither a host name nor an IP address", field="host")
    for field in ("https_port", "mqtt_port"):
        if not 0 <= getattr(settings, field) <= 65_535:
            raise BadRequest(f"{field} {getattr(settings, field)} must be 0 to 65535", field=field, limit=65_535)
    return settings


def load(home: Path) -> Settings:
    """Raises NotFound where no server was initialised, BadRequest for a file that cannot be used."""
    try:
        return check(msgspec.json.decode((home / FILE).read_bytes(), type=Settings))
    except FileNotFoundError as error:
        raise NotFound(f"{home} holds no fleet server: run `fleet-server init --home {home} --keys FOLDER` first", field="home") from error
    except (OSError, msgspec.DecodeError) as error:
        raise BadRequest(f"cannot use {home / FILE}: {error}", field="home") from error


def save(home: Path, settings: Settings) -> None:
    write_atomic(home / FILE, msgspec.json.format(msgspec.json.encode(settings), indent=2), 0o600)


def override(settings: Settings, environment: Mapping[str, str], options: Mapping[str, Any]) -> Settings:
    """Apply the variables that are set and, over them, the options that are not None. Raises BadRequest."""
    given: dict[str, Any] = {field: environment[name] for name, field in _VARIABLES.items() if environment.get(name)}
    given |= {field: value for field, value in options.items() if value is not None and value != ()}
    try:
        return check(msgspec.convert({**msgspec.structs.asdict(settings), **given}, Settings, strict=False))
    except msgspec.ValidationError as error:
        raise BadRequest(f"bad setting: {error}", field="settings") from error
