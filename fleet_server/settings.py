"""How one fleet server is set up: `server.json` in its home, overridden by EDGEFLEET_* variables, overridden by the command line."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from fleet_contract import limits, mqtt, names
from fleet_contract.errors import ContractError
from fleet_contract.logs import Form
from fleet_server.errors import BadRequest, NotFound
from fleet_server.storage import write_atomic

FILE = "server.json"
BROKERS = ("auto", "mosquitto", "embedded")
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_RANGES = {
    "https_port": (0, 65_535),
    "mqtt_port": (0, 65_535),
    "pass_gather_s": (0, 60),
    "pass_patience_s": (0.5, 60),
    "pass_max_bytes_per_s": (64_000, 10**12),
    "ingest_workers": (0, limits.MAX_INGEST_WORKERS_COUNT),
    "flood_messages_per_s": (1, 10**6),
    "flood_bytes_per_s": (1_000, 10**12),
    "inbox_max_bytes": (limits.MIB, 10**13),
    "inbox_max_age_s": (1, 7 * 24 * 3600),
    "retention_days": (1, 36_500),
    "retention_bytes": (limits.MIB, 10**15),
    "minutes_days": (1, 36_500),
    "query_max_s": (0.1, 3_600),
    "query_max_bytes": (64 * limits.MIB, 10**12),
}
_LOOPBACK = ("localhost", "127.0.0.1")
_VARIABLES = {
    "EDGEFLEET_BROKER": "broker",
    "EDGEFLEET_HTTPS_PORT": "https_port",
    "EDGEFLEET_MQTT_PORT": "mqtt_port",
    "EDGEFLEET_DATABASE_URL": "database_url",
    "EDGEFLEET_RELEASES_KEY": "releases_key",
    "EDGEFLEET_ADDRESS": "address",
    "EDGEFLEET_JOB_PYTHON": "job_python",
    "EDGEFLEET_DELIVERY_TRANSPORT": "delivery_transport",
    "EDGEFLEET_PASS_GATHER_S": "pass_gather_s",
    "EDGEFLEET_PASS_PATIENCE_S": "pass_patience_s",
    "EDGEFLEET_PASS_MAX_BYTES_PER_S": "pass_max_bytes_per_s",
    "EDGEFLEET_INGEST_WORKERS": "ingest_workers",
    "EDGEFLEET_FLOOD_MESSAGES_PER_S": "flood_messages_per_s",
    "EDGEFLEET_FLOOD_BYTES_PER_S": "flood_bytes_per_s",
    "EDGEFLEET_INBOX_MAX_BYTES": "inbox_max_bytes",
    "EDGEFLEET_INBOX_MAX_AGE_S": "inbox_max_age_s",
    "EDGEFLEET_RETENTION_DAYS": "retention_days",
    "EDGEFLEET_RETENTION_BYTES": "retention_bytes",
    "EDGEFLEET_MINUTES_DAYS": "minutes_days",
    "EDGEFLEET_QUERY_MAX_S": "query_max_s",
    "EDGEFLEET_QUERY_MAX_BYTES": "query_max_bytes",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "otlp_endpoint",
}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`host` is the name by which devices reach the server; `address` the IP address to listen on, by default loopback for a local host, else all.
    A port of 0 means any free one. `broker` is auto, mosquitto, embedded or the mqtts:// URL of one that runs already.
    `database_url` of None is SQLite in the home. Without `releases_key` (a PEM file) no retraining job can start.
    `delivery_transport`, mqtt or http, goes into every new order; devices may have a setting of their own, which goes before it.
    `pass_*` are of the shared passes over MQTT: how long one waits for more devices before it begins, how long for a device that says nothing
    until it goes on without, and how fast all of them together may send (None: as fast as the broker takes it).
    `ingest_workers` processes take in records here (0: they run elsewhere, see `fleet-server ingest`); when the inbox that they fill holds more than
    `inbox_max_bytes`, or something older than `inbox_max_age_s`, they acknowledge more slowly, and at twice that nothing more.
    A device that sends more than `flood_messages_per_s` or `flood_bytes_per_s` for half a minute is kept out for a while.
    Inferences are kept for `retention_days` and up to `retention_bytes` of files, the oldest days going first, and what each minute came to for
    `minutes_days` (None: for ever). A question to the API about them may take `query_max_s`, and `query_max_bytes` of memory.
    `log_format`, text or json, is that of the log on stderr.
    `otlp_endpoint` is the base URL of the collector that gets followed records as spans (None: nobody)."""

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
    delivery_transport: Literal["mqtt", "http"] | None = None
    pass_gather_s: float = 0.5
    pass_patience_s: float = 3.0
    pass_max_bytes_per_s: float | None = None
    ingest_workers: int = 1
    flood_messages_per_s: float = 200.0
    flood_bytes_per_s: float = 8e6
    inbox_max_bytes: int = 512 * limits.MIB
    inbox_max_age_s: float = 120.0
    retention_days: int | None = None
    retention_bytes: int | None = None
    minutes_days: int | None = None
    log_format: Form = "text"
    query_max_s: float = 30.0
    query_max_bytes: int = 512 * limits.MIB
    otlp_endpoint: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/]+[^\s]*$")] | None = None

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
    for field, (least, most) in _RANGES.items():
        value = getattr(settings, field)
        if value is not None and not least <= value <= most:
            raise BadRequest(f"{field} {value} must be {least} to {most}", field=field, limit=most if value > most else least)
    return settings


def load(home: Path) -> Settings:
    """Raises NotFound where no server was initialised, BadRequest for a file that cannot be used."""
    try:
        return check(msgspec.json.decode((home / FILE).read_bytes(), type=Settings))
    except FileNotFoundError as error:
        raise NotFound(f"{home} holds no fleet server: run `fleet-server init --home {home}` first", field="home") from error
    except (OSError, ValueError) as error:
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
