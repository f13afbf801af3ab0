"""One enrolled device and the server's side of it: Mosquitto, the server's own link and file service, a signed repository, acknowledged records."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.delivery.server import Folder
from bench.delivery.stage import Stage, build
from edge_agent import identity
from edge_agent.identity import Device
from fleet_contract.broker import Tls, parse_url
from fleet_server.inbox.segment import Arrival
from fleet_server.ingest import line
from fleet_server.ingest.committer import Committer
from fleet_server.ingest.intake import Intake
from fleet_server.ingest.worker import Worker
from fleet_server.mqtt.counts import Counts
from fleet_server.mqtt.files import FileService
from fleet_server.mqtt.link import FleetLink
from fleet_server.trust import device_ca
from tests.fakes.agent_repository import DEVICE, PROFILE, MemoryRepository

_PATIENCE_S = 60.0
_LOOK_S = 0.05


class Fleet:
    """`state` is the folder of a device that is enrolled and has no order yet."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self._repository = MemoryRepository()
        self._served = folder / "served"
        self._stage = build(folder, 1, 2, closing)
        self._link = FleetLink(Counts())
        service = FileService(Folder(self._served), self._link, self._link.counts)
        service.start()
        closing.callback(service.close)
        self._link.hand_to(lambda *_: None, service.offer)
        self._link.start(self._stage.plan.broker_url, self._stage.plan.server.tls, lambda: None)
        closing.callback(self._link.close)
        _take_records(folder, self._stage.plan.broker_url, closing)
        self.state = folder / "state"
        _enrol(self.state, self._stage, self._repository.root_v1)

    def order(self, archive: bytes, counter: int) -> None:
        """Sign and serve the bundle, and retain an order for it."""
        self._repository.publish(archive)
        for name, data in self._repository.files.items():
            path = self._served / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if not self._link.wait_connected(_PATIENCE_S):
            raise RuntimeError("no connection to the broker")
        self._link.publish_orders({DEVICE: self._repository.order(archive, counter)})


class _Nowhere:
    """An inbox that keeps nothing: the device alone is measured."""

    def append(self, arrivals: Sequence[Arrival], at_us: int) -> int:
        return len(arrivals)


def _take_records(folder: Path, url: str, closing: ExitStack) -> None:
    """A worker that acknowledges whatever comes."""
    name = device_ca.DeviceCa(folder / "ca", "bench", lambda: datetime.now(UTC)).renew_worker(1)
    host, port = parse_url(url)
    context = Tls(folder / "ca" / "ca.pem", folder / "ca" / f"{name}.pem", folder / "ca" / f"{name}.key").context()
    worker = Worker(
        lambda level: line.dial(host, port, context, name, level, credit=200, timeout_s=_PATIENCE_S),
        Intake(lambda device: True, lambda device, size: False, lambda reason, why: None),
        lambda wake: Committer(_Nowhere(), lambda: 0.0, wake),
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    closing.callback(thread.join)
    closing.callback(worker.stop)


@contextmanager
def running(state: Path, source: Path) -> Iterator[int]:
    """The agent's process on that state, as a person would start it; its id."""
    command = [sys.executable, "-m", "edge_agent", "--log-level", "warning", "run", "--state", str(state), "--source", f"csv:{source}"]
    process = subprocess.Popen(command, env={"PATH": os.environ.get("PATH", os.defpath)})
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def wait_until(state: Path, holds: Callable[[dict], bool]) -> dict:
    """What `edge-agent status --json` shows, once `holds` says so. Raises RuntimeError after a minute."""
    end_s = time.monotonic() + _PATIENCE_S
    shown: dict = {}
    while time.monotonic() < end_s:
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", "status", "--state", str(state), "--json"], capture_output=True, text=True, check=False
        )
        shown = json.loads(done.stdout) if done.returncode == 0 else {}
        if shown and holds(shown):
            return shown
        time.sleep(_LOOK_S)
    raise RuntimeError(f"the device never came so far: {shown}")


def _enrol(folder: Path, stage: Stage, root: bytes) -> None:
    mine = stage.plan.devices[DEVICE]
    device = Device(DEVICE, "bench", PROFILE, "toy", stage.plan.broker_url, "https://localhost:1", "")
    pems = {name: Path(path).read_bytes() for name, path in msgspec.structs.asdict(mine).items()}
    folder.mkdir()
    identity.save(folder / "identity", device, key_pem=pems["key"], certificate_pem=pems["certificate"], ca_pem=pems["ca"], root=root)
