"""A broker, a database, ingest workers and the compactor, as processes of their own, in a folder that is gone afterwards."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, create_engine, func, insert, select, text

from bench import postgres
from bench.ingest.load import Sender
from fleet_contract.broker import Tls
from fleet_contract.mqtt_packets import Level
from fleet_server.inbox import sql
from fleet_server.inbox.port import Inbox
from fleet_server.ingest import line
from fleet_server.mqtt.listener import Listener
from fleet_server.mqtt.supervisor import BrokerChild
from fleet_server.running import free_port
from fleet_server.tables import database
from fleet_server.tables.device import Device
from fleet_server.tables.stream import Stream
from fleet_server.trust import device_ca
from fleet_server.trust.device_ca import SERVER_IDENTITY, DeviceCa

_PATIENCE_S = 60.0
_LOOK_S = 0.05
START = datetime(2026, 1, 1, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Stage:
    """`folder` holds the identities; a server's own home is made for each run."""

    folder: Path
    broker: BrokerChild
    port: int
    devices: tuple[str, ...]

    def tls(self, name: str) -> Tls:
        ca = self.folder / "ca"
        return Tls(ca / "ca.pem", ca / f"{name}.pem", ca / f"{name}.key")

    @contextmanager
    def senders(self) -> Iterator[list[Sender]]:
        """All devices, connected, each with a new epoch."""
        with ExitStack() as stack:
            made = []
            for name in self.devices:
                context = self.tls(name).context()
                connection = line.dial("localhost", self.port, context, name, Level.V5, credit=4_096, timeout_s=_PATIENCE_S)
                stack.callback(connection.close)
                made.append(Sender(name, connection, uuid.uuid4().hex[:16]))
            yield made


@dataclass(frozen=True)
class Site:
    """What one run stores into: a server's home, its database and its inbox."""

    stage: Stage
    home: Path
    url: str
    engine: Engine
    inbox: Inbox

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Connected, when this gives them."""
        broker = f"mqtts://localhost:{self.stage.port}"
        with ExitStack() as stack:
            for number in range(1, count + 1):
                self._run(stack, "fleet_server.ingest", "--workers", str(count), "--broker", broker, "--number", str(number))
            log = self.home / "fleet_server.ingest.log"
            wait_for(lambda: log.read_text().count("connected, MQTT 5") == count, f"{count} ingest workers connect")
            yield

    @contextmanager
    def compactor(self) -> Iterator[None]:
        with ExitStack() as stack:
            yield self._run(stack, "fleet_server.lake")

    def stored(self) -> int:
        """Records that the database says are in the lake, each once."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.sum(Stream.stored))).scalar() or 0)

    def _run(self, stack: ExitStack, module: str, *arguments: str) -> None:
        log = stack.enter_context((self.home / f"{module}.log").open("ab"))
        common = ("--home", str(self.home), "--database-url", self.url)
        process = subprocess.Popen([sys.executable, "-m", module, *common, *arguments], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)


def build(folder: Path, devices: int, stack: ExitStack) -> Stage:
    """A Mosquitto that runs until `stack` ends, and identities."""
    ca = device_ca.create(folder / "ca", "bench", now)
    ca.renew_own(["localhost", "127.0.0.1"])
    for number in (1, 2):
        ca.renew_worker(number)
    names = tuple(f"bench-{number}" for number in range(devices))
    for name in names:
        _certify(ca, name)
    port = free_port("127.0.0.1", 0, 0, "mqtt_port")
    listener = Listener(
        "127.0.0.1", port, *(str(ca.folder / name) for name in ("ca.pem", "server.pem", "server.key")), str(folder / "broker")
    )
    server = Tls(ca.folder / "ca.pem", ca.folder / f"{SERVER_IDENTITY}.pem", ca.folder / f"{SERVER_IDENTITY}.key")
    broker = BrokerChild("mosquitto", listener, server, search_path=os.environ.get("PATH", os.defpath))
    stack.callback(broker.close)
    broker.start()
    return Stage(folder, broker, port, names)


@contextmanager
def opened(stage: Stage, name: str, cluster: postgres.Cluster | None) -> Iterator[Site]:
    """A new home with these devices; its database is in the cluster, or else a file."""
    home = stage.folder / name
    home.mkdir()
    (home / "ca").symlink_to(stage.folder / "ca")
    url = _new_database(cluster, name) if cluster else database.sqlite_url(home / "fleet.db")
    with ExitStack() as stack:
        engine = database.connect(url)
        stack.callback(engine.dispose)
        database.migrate(engine)
        rows = [Device(id=each, profile="p", task="t", enrolled_at=START).model_dump(exclude_none=True) for each in stage.devices]
        with engine.begin() as connection:
            connection.execute(insert(Device), rows)
        inbox = sql.open_beside(engine, home)
        stack.callback(inbox.engine.dispose)
        yield Site(stage, home, url, engine, inbox)
        shutil.rmtree(home)


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S) -> float:
    """Returns how many seconds it took. Raises TimeoutError."""
    begun_s = time.monotonic()
    while not condition():
        if time.monotonic() - begun_s > patience_s:
            raise TimeoutError(f"{what}: not within {patience_s} s")
        time.sleep(_LOOK_S)
    return time.monotonic() - begun_s


def _new_database(cluster: postgres.Cluster, name: str) -> str:
    server = create_engine(cluster.url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.dispose()
    return cluster.database(name)


def _certify(ca: DeviceCa, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])).sign(key, hashes.SHA256())
    (ca.folder / f"{name}.pem").write_text(ca.issue(request.public_bytes(Encoding.PEM).decode(), name))
    (ca.folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
