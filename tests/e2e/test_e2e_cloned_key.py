"""Two agents with one key on a running fleet: found, set apart without harm to others, and the true device's way back."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from examples.sensors import tables
from hil import watch
from hil.camera import VirtualSensor
from hil.device import DeviceRig
from hil.fleet import FleetRig

WAIT_S = 60.0
WHERE = {"profile": "generic-x86-64", "task": "tissue"}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def _sensor(file: Path, dealt) -> VirtualSensor:
    sensor = VirtualSensor(file, dealt.columns)
    sensor.write([row.values for row in dealt.rest[:20]])
    return sensor


def _answered(fleet: FleetRig, **written: int) -> bool:
    return watch.answered(fleet.api, lambda text: None, {name.replace("_", "-"): rows for name, rows in written.items()})


def _clone(true: DeviceRig, source: Path, folder: Path, logs: Path) -> DeviceRig:
    """What a thief of the disk starts: the same key, the same journal, the same outbox."""
    shutil.copytree(true.state, folder)
    clone = DeviceRig(true.id, f"csv:{source}", folder, logs / "clone")
    clone.start()
    return clone


def test_a_key_in_two_hands_is_found_and_costs_the_true_device_nothing(tmp_path, fleet, tissue):
    fleet.start_server(broker="auto", tasks=[tissue.task])
    fleet.publish(tissue.bundle)
    dealt = tables.deal(np.random.default_rng(1))
    first, second = (_sensor(tmp_path / f"rows-{n}.csv", dealt) for n in (1, 2))
    true = fleet.add_device("sensor-1", f"csv:{first.file}", **WHERE)
    fleet.add_device("sensor-2", f"csv:{second.file}", **WHERE)
    fleet.wait(lambda: _answered(fleet, sensor_1=20, sensor_2=20), "both devices to answer", WAIT_S)

    true.close()
    empty = VirtualSensor(tmp_path / "empty.csv", dealt.columns)
    clone = fleet.devices["the-clone"] = _clone(true, empty.file, tmp_path / "stolen", fleet.logs)
    true.start()
    fleet.wait(lambda: fleet.api.get("/devices/sensor-1")["quarantined_at"], "the clone to be found", WAIT_S)
    assert fleet.api.get("/devices/sensor-1")["quarantine_reason"] in ("cloned-key", "twin-records")
    assert "edgefleet_devices_quarantined 1.0" in fleet.api.metrics().splitlines()

    for sensor in (first, second):
        sensor.write([row.values for row in dealt.rest[20:40]])
    fleet.wait(lambda: _answered(fleet, sensor_2=40), "the other device to go on", WAIT_S)
    assert fleet.api.get("/devices/sensor-1")["ledger"]["telemetry"]["stored"] == 20
    assert fleet.api.get("/devices/sensor-2")["quarantined_at"] is None

    true.close()
    shutil.rmtree(true.state / "identity")
    true.enrol(fleet.api, fleet.server.state().https_url, **WHERE)
    fleet.api.post("/devices/sensor-1/release", {})
    true.start()
    fleet.wait(lambda: _answered(fleet, sensor_1=40), "what waited on the device to arrive", WAIT_S)
    first.write([row.values for row in dealt.rest[40:50]])
    fleet.wait(lambda: _answered(fleet, sensor_1=50), "the device to go on", WAIT_S)
    assert fleet.api.get("/devices/sensor-1")["quarantined_at"] is None
    clone.check()
