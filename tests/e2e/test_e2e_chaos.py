"""Everything breaks while records flow: the broker forgets, workers and compactor are killed, the database crashes, a cable is pulled, a disk is
full. In the end each record is accounted for, and what was stored is there once."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench import postgres
from bench.postgres import Cluster
from hil import watch
from hil.camera import VirtualSensor
from hil.fleet import FleetRig
from hil.program import Program, installed, run
from tests.fakes import agent_run_models as models
from tests.fakes import board_place, child_processes
from tests.fakes.board_place import Place

PLAIN, CUT, FULL = DEVICES = ("plain-1", "cut-1", "full-1")
WORKERS = 2
CROWD = 30
CROWD_S = 20
WAIT_S = 60.0
ROWS = [[1, 2], [-3, 4], [0, 0], [5, -5]] * 5
FEED_S = 0.2
DISK_BYTES = 16 << 20
NETWORK = 61

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(postgres.obstacle() is not None, reason=str(postgres.obstacle())),
    pytest.mark.skipif(board_place.obstacle() is not None, reason=str(board_place.obstacle())),
]


class Feed:
    """Rows for all sensors, on and on, until it is closed."""

    def __init__(self, folder: Path) -> None:
        self.sensors = {name: VirtualSensor(folder / f"{name}.csv", models.VECTOR.columns) for name in DEVICES}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def written(self) -> dict[str, int]:
        return {name: sensor.written for name, sensor in self.sensors.items()}

    def _run(self) -> None:
        while not self._stop.wait(FEED_S):
            for sensor in self.sensors.values():
                sensor.write(ROWS)


class Chaos:
    """A fleet on a database of its own, and what can go wrong with it."""

    def __init__(self, fleet: FleetRig, cluster: Cluster, place: Place) -> None:
        self.fleet, self.cluster, self.place = fleet, cluster, place
        self.disk = fleet.home / "devices" / FULL
        self.inside = {PLAIN: [], CUT: place.on_network, FULL: place.on_disk}

    @contextmanager
    def network_cut(self) -> Iterator[None]:
        self.place.cut()
        yield
        self.place.mend()

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        self.place.fill(self.disk)
        yield
        self.place.free(self.disk)

    def broker_forgets(self) -> None:
        """It comes back with empty persistence: what it had taken and not delivered is gone."""
        for kept in (self.fleet.server.home / "broker" / "store").iterdir():
            kept.unlink()
        killed = self.fleet.server.kill_broker()
        self.fleet.wait(lambda: self.fleet.server.state().broker_pid not in (killed, None), "another broker", WAIT_S)

    def worker_is_killed(self) -> None:
        self._kill_one("fleet_server.ingest", WORKERS)

    def compactor_is_killed(self) -> None:
        self._kill_one("fleet_server.lake", 1)

    def database_crashes(self) -> None:
        self.cluster.stop("immediate")
        self.cluster.start()

    def _kill_one(self, module: str, count: int) -> None:
        """Back when there are as many as before."""
        home = self.fleet.server.home
        killed = min(self.fleet.wait(lambda: self._all(module, home, count), f"{count} of {module}", WAIT_S))
        os.kill(killed, signal.SIGKILL)
        self.fleet.wait(lambda: killed not in (self._all(module, home, count) or [killed]), f"another {module}", WAIT_S)

    @staticmethod
    def _all(module: str, home: Path, count: int) -> frozenset[int]:
        found = child_processes.running(module, home)
        return found if len(found) == count else frozenset()

    def flowing(self) -> None:
        """Until the server holds some more of a device that nothing is done to."""
        before = self._stored()
        self.fleet.wait(lambda: self._stored() > before + len(ROWS), "records to flow", WAIT_S)

    def _stored(self) -> int:
        return self.fleet.api.get(f"/devices/{PLAIN}")["ledger"].get("telemetry", {}).get("stored", 0)


@pytest.fixture
def chaos(tmp_path: Path, fleet: FleetRig, mosquitto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chaos]:
    monkeypatch.setenv("EDGEFLEET_INGEST_WORKERS", str(WORKERS))
    (tmp_path / "toy.bundle").write_bytes(models.bundle())
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres.running())
        place = stack.enter_context(board_place.place(NETWORK))
        stack.callback(fleet.close)
        fleet.start_server(broker="mosquitto", tasks=[], options=["--database-url", cluster.url, "--host", place.host])
        fleet.publish(tmp_path / "toy.bundle")
        yield Chaos(fleet, cluster, place)


def test_each_record_is_accounted_for_whatever_breaks(tmp_path: Path, chaos: Chaos) -> None:
    feed = Feed(tmp_path)
    _enrol(chaos, feed)
    with feed, _crowd(chaos, tmp_path) as crowd:
        chaos.flowing()
        with chaos.network_cut(), chaos.disk_full():
            for breaks in (chaos.broker_forgets, chaos.worker_is_killed, chaos.database_crashes, chaos.compactor_is_killed):
                breaks()
                chaos.flowing()
        chaos.fleet.wait(lambda: not crowd.running, "the crowd's comparison", 2 * WAIT_S)
    _assert_every_number_adds_up(chaos.fleet, feed.written)
    _assert_of_the_crowd_too(crowd)


def _enrol(chaos: Chaos, feed: Feed) -> None:
    chaos.place.mount(chaos.disk, DISK_BYTES)
    for name in DEVICES:
        source, inside = f"csv:{feed.sensors[name].file}", chaos.inside[name]
        chaos.fleet.add_device(name, source, profile="generic-x86-64", task="toy", inside=inside, options=["--heartbeat", "1"])
    bundle = next(chaos.fleet.api.items("/bundles"))["sha256"]
    chaos.fleet.wait(lambda: watch.running(chaos.fleet.api, _mute, bundle, DEVICES), "the bundle on every device", WAIT_S)


@contextmanager
def _crowd(chaos: Chaos, folder: Path) -> Iterator[Program]:
    """Virtual devices behind the cable; they count for themselves, and compare with the server in the end."""
    rig = chaos.fleet
    server = ["--server", rig.server.state().https_url, "--ca", str(rig.server.ca), "--token-file", str(rig.home / "admin-token")]
    load = ["--devices", str(CROWD), "--rate", "2", "--rows", "20", "--duration", str(CROWD_S), "--identities", str(folder / "crowd")]
    crowd = Program("hil fleet", [*chaos.place.on_network, installed("hil"), "fleet", *server, *load, "--json"], folder / "crowd.log")
    try:
        rig.wait(lambda: sum(item["online"] for item in rig.api.items("/devices")) == CROWD + len(DEVICES), "the crowd", WAIT_S)
        yield crowd
    finally:
        crowd.close()


def _assert_every_number_adds_up(fleet: FleetRig, written: dict[str, int]) -> None:
    """Only a device whose disk was full may have dropped anything, and it says how much."""
    fleet.wait(lambda: _produced(fleet) == written, "a result of every row", WAIT_S)
    rows = fleet.wait(lambda: watch.settled_ledger(fleet.api, _mute), "the ledgers to settle", WAIT_S)
    for row in rows:
        assert row["produced"] == row["stored"] + sum(row["dropped"].values()), row
        assert row["device"] == FULL or not row["dropped"], row
    stored = {row["device"]: row["stored"] for row in rows if row["lane"] == "telemetry"}
    assert stored.keys() > {*DEVICES}
    found = _in_the_lake(fleet)
    assert {device: count for device, (count, _, _) in found.items()} == stored
    assert all(count == numbers for count, numbers, _ in found.values()), "each sequence number is there once"
    assert all(found[device][0] == found[device][2] for device in DEVICES), "each row was answered once"
    assert not list(fleet.api.items("/alerts"))


def _in_the_lake(fleet: FleetRig) -> dict[str, tuple[int, int, int]]:
    """By device: results, and how many sequence numbers and inputs they are of."""
    counts = "count(*) AS rows, count(DISTINCT (epoch, seq)) AS numbers, count(DISTINCT input_id) AS inputs"
    question = f"SELECT device, {counts} FROM results GROUP BY device"
    told = run("fleet-server sql", [installed("fleet-server"), "sql", "--home", str(fleet.server.home), "--json", question])
    return {row["device"]: (row["rows"], row["numbers"], row["inputs"]) for row in json.loads(told)["rows"]}


def _produced(fleet: FleetRig) -> dict[str, int]:
    lanes = [(row["device"], row["produced"]) for row in fleet.api.items("/ledger") if row["lane"] == "telemetry"]
    return {name: count for name, count in lanes if name in DEVICES}


def _assert_of_the_crowd_too(crowd: Program) -> None:
    report = json.loads(crowd.log.read_text().splitlines()[-1])["ledger"]
    assert report["settled"], report
    assert report["stored"] == report["produced"] - report["dropped"] > 0


def _mute(_text: str) -> None:
    return None
