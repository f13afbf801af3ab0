"""Everything breaks while records flow: the broker forgets, processes are killed, the database restarts, a cable is pulled, a disk is full.
In the end each record is accounted for, and what was stored is there once."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench import postgres
from bench.postgres import Cluster
from examples.sensors import tables
from hil import watch
from hil.camera import VirtualSensor
from hil.fleet import FleetRig
from tests.fakes import board_place
from tests.fakes.board_place import Place

PLAIN, CUT, FULL = DEVICES = ("plain-1", "cut-1", "full-1")
WAIT_S = 60.0
ROWS_AT_ONCE = 20
FEED_S = 0.2
DISK_BYTES = 24 << 20
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
        dealt = tables.deal(np.random.default_rng(6))
        self.sensors = {name: VirtualSensor(folder / f"{name}.csv", dealt.columns) for name in DEVICES}
        self._rows = [row.values for row in dealt.rest[:ROWS_AT_ONCE]]
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
                sensor.write(self._rows)


class Chaos:
    """A fleet on a database of its own, and what can go wrong with it."""

    def __init__(self, fleet: FleetRig, cluster: Cluster, place: Place) -> None:
        self.fleet, self.cluster, self.place = fleet, cluster, place

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

    @property
    def disk(self) -> Path:
        return self.fleet.home / "devices" / FULL

    def broker_forgets(self) -> None:
        """It comes back with empty persistence: what it had taken and not delivered is gone."""
        for kept in (self.fleet.server.home / "broker" / "store").iterdir():
            kept.unlink()
        killed = self.fleet.server.kill_broker()
        self.fleet.wait(lambda: self.fleet.server.state().broker_pid not in (killed, None), "another broker", WAIT_S)

    def database_crashes(self) -> None:
        self.cluster.stop("immediate")
        self.cluster.start()

    def flowing(self) -> None:
        """Until the server holds some more of a device that nothing was done to."""
        before = self._stored()
        self.fleet.wait(lambda: self._stored() > before + ROWS_AT_ONCE, "records to flow", WAIT_S)

    def _stored(self) -> int:
        return self.fleet.api.get(f"/devices/{PLAIN}")["ledger"].get("telemetry", {}).get("stored", 0)


@pytest.fixture
def chaos(tmp_path: Path, fleet: FleetRig, tissue, mosquitto: str) -> Iterator[Chaos]:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres.running())
        place = stack.enter_context(board_place.place(NETWORK))
        options = ["--database-url", cluster.url, "--host", place.host]
        fleet.start_server(broker="mosquitto", tasks=[tissue.task], options=options)
        fleet.publish(tissue.bundle)
        yield Chaos(fleet, cluster, place)
        fleet.close()


def test_each_record_is_accounted_for_whatever_breaks(tmp_path: Path, chaos: Chaos) -> None:
    feed = Feed(tmp_path)
    _enrol(chaos, feed)
    with feed:
        chaos.flowing()
        with chaos.network_cut(), chaos.disk_full():
            for breaks in (chaos.broker_forgets, chaos.database_crashes):
                breaks()
                chaos.flowing()
    _assert_every_number_adds_up(chaos.fleet, feed.written)


def _enrol(chaos: Chaos, feed: Feed) -> None:
    chaos.place.mount(chaos.disk, DISK_BYTES)
    for name in DEVICES:
        inside = () if name == PLAIN else chaos.place.inside
        source = f"csv:{feed.sensors[name].file}"
        chaos.fleet.add_device(name, source, profile="generic-x86-64", task="tissue", inside=inside, options=["--heartbeat", "1"])
    bundle = next(chaos.fleet.api.items("/bundles"))["sha256"]
    chaos.fleet.wait(lambda: watch.running(chaos.fleet.api, _mute, bundle, DEVICES), "the bundle on every device", WAIT_S)


def _assert_every_number_adds_up(fleet: FleetRig, written: dict[str, int]) -> None:
    fleet.wait(lambda: watch.answered(fleet.api, _mute, written), "a result of every row", WAIT_S)
    rows = fleet.wait(lambda: watch.settled_ledger(fleet.api, _mute), "the ledgers to settle", WAIT_S)
    assert all(row["produced"] == row["stored"] + sum(row["dropped"].values()) for row in rows)
    results = list(fleet.api.items("/telemetry"))
    assert {*Counter((row["device"], row["input_id"]) for row in results).values()} == {1}
    assert {*Counter((row["device"], row["epoch"], row["seq"]) for row in results).values()} == {1}
    assert Counter(row["device"] for row in results) == written


def _mute(_text: str) -> None:
    return None
