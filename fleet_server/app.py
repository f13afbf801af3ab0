"""Composition root: the only file that names the classes behind the ports. `serve` runs one whole fleet server."""

import importlib.metadata
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet_contract import garbage, names
from fleet_contract.errors import ContractError
from fleet_contract.mqtt import Tls
from fleet_server import https, running
from fleet_server.api.app import create_app
from fleet_server.children import DATABASE_VARIABLE, Child
from fleet_server.control_loop import ControlLoop, Every
from fleet_server.errors import BadRequest, Conflict
from fleet_server.fleet import Fleet
from fleet_server.founding import database_url
from fleet_server.inbox import sql
from fleet_server.jobs.local import LocalRunner
from fleet_server.mqtt.admission import CRL_FILE, Admission
from fleet_server.mqtt.counts import Counts
from fleet_server.mqtt.files import FileService
from fleet_server.mqtt.link import FleetLink
from fleet_server.mqtt.listener import Listener
from fleet_server.mqtt.passes import PassRules
from fleet_server.mqtt.statuses import StatusIntake
from fleet_server.mqtt.supervisor import BrokerChild, choose
from fleet_server.ports import BrokerState
from fleet_server.queries.bounds import Bounds
from fleet_server.running import Ports, RunState
from fleet_server.services import orders, quarantine, statuses, trust
from fleet_server.services.control import Control
from fleet_server.settings import BROKERS, Settings
from fleet_server.tables import database
from fleet_server.trust.device_ca import SERVER_IDENTITY, WORKER_IDENTITIES, DeviceCa
from fleet_server.trust.keys import OnlineKeys
from fleet_server.trust.orders import Ed25519OrderSigner
from fleet_server.trust.permits import Permits
from fleet_server.trust.repository import TufRepository

log = logging.getLogger(__name__)

_REFRESH_S = 60.0
_FIRST_CONNECTION_S = 15.0
_PERMIT_SECRET_BYTES = 32


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class LiveBroker:
    """Implements ports.Broker. `child` is None for a broker that somebody else runs."""

    kind: str
    url: str
    link: FleetLink
    child: BrokerChild | None

    def exclude(self, devices: frozenset[str]) -> None:
        """A broker that somebody else runs is not ours to tell. Raises OSError."""
        if self.child:
            self.child.exclude(devices)

    def state(self) -> BrokerState:
        bytes_in, bytes_out = self.link.bytes_in_out
        pid = self.child.pid if self.child else None
        return BrokerState(self.kind, self.url, self.link.connected, self.link.protocol, pid, bytes_in, bytes_out)


@dataclass(frozen=True)
class _Places:
    """The home, and where the two listeners are."""

    home: Path
    settings: Settings
    ports: Ports

    @property
    def https_url(self) -> str:
        return f"https://{self.settings.url_host}:{self.ports.https}"

    @property
    def identity(self) -> Tls:
        ca = self.home / "ca"
        return Tls(ca / "ca.pem", ca / f"{SERVER_IDENTITY}.pem", ca / f"{SERVER_IDENTITY}.key")

    @property
    def listener(self) -> Listener:
        ca = self.home / "ca"
        files = (str(ca / name) for name in ("ca.pem", "server.pem", "server.key"))
        crl = str(self.home / "broker" / CRL_FILE)
        return Listener(self.settings.bind_address, self.ports.mqtt, *files, str(self.home / "broker"), crl=crl)


def serve(home: Path, settings: Settings, environment: Mapping[str, str], announce: Callable[[RunState], None]) -> None:
    """Run until SIGTERM or SIGINT; `announce` is called once, when devices and people can connect. Raises ServerError when it cannot start."""
    home = home.resolve()
    with ExitStack() as stack:
        stack.enter_context(running.claimed(home))
        authority = DeviceCa(home / "ca", settings.fleet, utc_now)
        authority.renew_own(settings.own_hosts)
        engine = database.connect(database_url(home, settings))
        stack.callback(engine.dispose)
        if not database.is_current(engine):
            raise Conflict(f"the database is of another version: run `fleet-server migrate --home {home}` first", field="database_url")
        last = running.last_ports(home)
        https_listener = stack.enter_context(running.listen(settings.bind_address, settings.https_port, last.https, "https_port"))
        external = settings.broker not in BROKERS
        mqtt_port = 0 if external else running.free_port(settings.bind_address, settings.mqtt_port, last.mqtt, "mqtt_port")
        places = _Places(home, settings, Ports(https_listener.getsockname()[1], mqtt_port))
        running.remember_ports(home, places.ports)
        link = FleetLink(Counts())
        admission = Admission(lambda: quarantine.excluded(engine, utc_now()), authority, home / "broker")
        broker = _start_broker(places, environment, link, admission, stack)
        fleet = _assemble(places, engine, authority, link, broker, admission, stack)
        _connect(fleet, places, link, broker, stack)
        _start_compactor(places, stack)
        _start_workers(places, authority, broker, stack)
        _export_traces(fleet, settings.otlp_endpoint, stack)
        tls = https.TlsFiles(home / "ca" / "server.pem", home / "ca" / "server.key")
        app = create_app(fleet)
        garbage.look_rarely()
        https.serve(app, https_listener, tls, lambda: _ready(places, broker, announce))
        log.info("stopping")


def _start_broker(places: _Places, environment: Mapping[str, str], link: FleetLink, admission: Admission, stack: ExitStack) -> LiveBroker:
    settings = places.settings
    if settings.broker not in BROKERS:
        return LiveBroker("external", settings.broker, link, None)
    search_path = environment.get("PATH", os.defpath)
    kind = choose(settings.broker, search_path)
    url = f"mqtts://{settings.url_host}:{places.ports.mqtt}"

    def renew_state(pid: int) -> None:
        if (places.home / "run" / "state.json").exists():
            running.write_state(places.home, RunState(places.https_url, url, kind, os.getpid(), pid))

    child = BrokerChild(kind, places.listener, places.identity, search_path=search_path, on_started=renew_state)
    stack.callback(child.close)
    admission.renew(child.exclude)
    child.start()
    return LiveBroker(kind, url, link, child)


def _assemble(
    places: _Places, engine, authority: DeviceCa, link: FleetLink, broker: LiveBroker, admission: Admission, stack: ExitStack
) -> Fleet:
    home, settings = places.home, places.settings
    repository = TufRepository(home / "tuf", home / "keys", utc_now).opened()
    runner = LocalRunner(python=settings.job_python or sys.executable)
    stack.callback(runner.close)
    inbox = sql.open_beside(engine, home)
    stack.callback(inbox.engine.dispose)
    loop = ControlLoop()
    fleet = Fleet(
        name=settings.fleet,
        home=home,
        engine=engine,
        authority=authority,
        repository=repository,
        signer=Ed25519OrderSigner(OnlineKeys(home / "keys"), lambda: repository.trusted("orders")),
        link=link,
        broker=broker,
        runner=runner,
        tasks=task_files(settings.tasks),
        releases_key=Path(settings.releases_key).resolve() if settings.releases_key else None,
        now=utc_now,
        version=importlib.metadata.version("edgefleet"),
        wake=loop.wake,
        ingest_counts=link.counts.snapshot,
        permits=Permits(places.https_url, os.urandom(_PERMIT_SECRET_BYTES), utc_now),
        may_receive=admission.may,
        transport=settings.delivery_transport,
        backlog=inbox.backlog,
        query_bounds=Bounds(settings.query_max_s, settings.query_max_bytes),
    )
    stack.callback(loop.close)
    loop.start(_ticker(fleet, link, lambda: admission.renew(broker.exclude)))
    return fleet


def _ticker(fleet: Fleet, link: FleetLink, admit: Callable[[], None]) -> Callable[[], None]:
    control, refresh, reminder = Control(fleet), Every(_REFRESH_S), trust.Reminder(fleet.repository.expiries)

    def tick() -> None:
        admit()
        if refresh.due():
            fleet.repository.refresh()
            reminder.remind(fleet.now())
        if link.stale.is_set() and link.connected:
            link.publish_all(orders.current(fleet.engine))
        control.tick(fleet.now())

    return tick


def _connect(fleet: Fleet, places: _Places, link: FleetLink, broker: LiveBroker, stack: ExitStack) -> None:
    intake = StatusIntake(lambda said: statuses.observe_all(fleet.engine, said), link.counts, fleet.now)
    chosen = places.settings
    rules = PassRules(chosen.pass_gather_s, chosen.pass_patience_s, chosen.pass_max_bytes_per_s)
    files = FileService(fleet.repository, link, link.counts, may=fleet.may_receive, addresses=fleet.permits, rules=rules)
    for part in (intake, files):
        stack.callback(part.close)
        part.start()
    stack.callback(link.close)
    url = f"mqtts://{_local(places.settings)}:{places.ports.mqtt}" if broker.child else broker.url
    link.hand_to(intake.offer, files.offer)
    link.start(url, places.identity, fleet.wake)
    if not link.wait_connected(_FIRST_CONNECTION_S):
        log.warning("no connection to the broker %s yet; trying on", url)


def _start_compactor(places: _Places, stack: ExitStack) -> None:
    settings = places.settings
    chosen = {
        "--home": places.home,
        "--retention-days": settings.retention_days,
        "--retention-bytes": settings.retention_bytes,
        "--minutes-days": settings.minutes_days,
    }
    _start_child("compactor", "fleet_server.lake", chosen, places, stack)


def _start_workers(places: _Places, authority: DeviceCa, broker: LiveBroker, stack: ExitStack) -> None:
    """A broker that cannot share a subscription among them has one."""
    settings = places.settings
    url = f"mqtts://{_local(settings)}:{places.ports.mqtt}" if broker.child else broker.url
    count = min(settings.ingest_workers, 1) if broker.kind == "embedded" else settings.ingest_workers
    running.clear_connected(places.home)
    for number in range(1, count + 1):
        name = authority.renew_worker(number)
        chosen = {
            "--home": places.home,
            "--number": number,
            "--workers": count,
            "--broker": url,
            "--backlog-bytes": settings.inbox_max_bytes,
            "--backlog-s": settings.inbox_max_age_s,
            "--flood-messages-per-s": settings.flood_messages_per_s,
            "--flood-bytes-per-s": settings.flood_bytes_per_s,
        }
        _start_child(name, "fleet_server.ingest", chosen, places, stack)
    if broker.link.connected and not running.wait_connected(places.home, WORKER_IDENTITIES[:count], _FIRST_CONNECTION_S):
        log.warning("not all of %d ingest workers are connected to the broker yet", count)


def _start_child(name: str, module: str, options: Mapping[str, object], places: _Places, stack: ExitStack) -> None:
    """The database's password is none of the arguments, which everybody on the machine may read."""
    wanted = {**options, "--log-format": places.settings.log_format}
    given = [str(word) for option, value in wanted.items() if value is not None for word in (option, value)]
    child = Child(name, [sys.executable, "-m", module, *given], {DATABASE_VARIABLE: database_url(places.home, places.settings)})
    stack.callback(child.close)
    child.start()


def _export_traces(fleet: Fleet, endpoint: str | None, stack: ExitStack) -> None:
    if endpoint is None:
        return
    from fleet_server.otlp import Collector, TraceExport  # half a second that most servers can spare

    export = TraceExport(fleet.engine, Collector(endpoint, fleet.name), fleet.now)
    stack.callback(export.close)
    export.start()


def _local(settings: Settings) -> str:
    """Where the server reaches its own listeners; all addresses include loopback."""
    return "127.0.0.1" if settings.bind_address in ("0.0.0.0", "127.0.0.1") else settings.bind_address


def _ready(places: _Places, broker: LiveBroker, announce: Callable[[RunState], None]) -> None:
    state = RunState(places.https_url, broker.url, broker.kind, os.getpid(), broker.child.pid if broker.child else None)
    running.write_state(places.home, state)
    announce(state)


def task_files(paths: tuple[str, ...]) -> dict[str, Path]:
    """Task files by the name inside. Raises BadRequest for one that cannot be read or has no name, or for two of one name."""
    found: dict[str, Path] = {}
    for text in paths:
        path = Path(text).resolve()
        try:
            name = names.name(tomllib.loads(path.read_text())["task"]["name"], "task.name")
        except (OSError, ValueError, KeyError, TypeError, ContractError) as error:
            raise BadRequest(f"cannot use the task file {path}: {type(error).__name__}: {error}", field="task") from error
        if name in found:
            raise BadRequest(f"{found[name]} and {path} both describe the task {name!r}", field="task")
        found[name] = path
    return found
