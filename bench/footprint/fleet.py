"""One enrolled device and the server's side of it: Mosquitto, the server's own link and file service, a signed repository, acknowledged records."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench.delivery.server import Folder
from bench.delivery.stage import Stage, build
from edge_agent import identity
from edge_agent.identity import Device
from fleet_contract.messages import Ack
from fleet_server.mqtt.counts import Counts
from fleet_server.mqtt.files import FileService
from fleet_server.mqtt.ingest import Arrival
from fleet_server.mqtt.link import FleetLink
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
        self._link.hand_to(self._acknowledge, lambda *_: None, service.offer)
        self._link.start(self._stage.plan.broker_url, self._stage.plan.server.tls, lambda: None)
        closing.callback(self._link.close)
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

    def _acknowledge(self, arrival: Arrival) -> None:
        batch = arrival.message
        self._link.send_ack(arrival.device, Ack(batch.epoch, batch.lane, [(batch.first, batch.last)]))
        arrival.puback()


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
