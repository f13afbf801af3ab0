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
TELEMETRY = ("sensor-1", "telemetry")
WHERE = {"profile": "generic-x86-64", "task": "tissue"}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def _sensor(file: Path, dealt) -> VirtualSensor:
    sensor = VirtualSensor(file, dealt.columns)
    sensor.write([row.values for row in dealt.rest[:20]])
    return sensor


def _answered(fleet: FleetRig, **written: int) -> bool:
    return watch.answered(fleet.api, lambda text: None, {name.replace("_", "-"): rows for name, rows in written.items()})


def _clone(true: DeviceRig, source: Path, folder: Path, logs: Path, *, outbox: bool) -> DeviceRig:
    """What a thief of the disk starts: the same key, the same journal and, where wanted, the same outbox."""
    shutil.copytree(true.state, folder, ignore=None if outbox else shutil.ignore_patterns("outbox*"))
    clone = DeviceRig(true.id, f"csv:{source}", folder, logs / "clone")
    clone.start()
    return clone


def _stored(fleet: FleetRig) -> int:
    """Inferences of sensor-1, over all epochs."""
    return sum(each["records"] for each in fleet.api.get("/telemetry/summary")["stored"] if (each["device"], each["lane"]) == TELEMETRY)


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
    clone = fleet.devices["the-clone"] = _clone(true, empty.file, tmp_path / "stolen", fleet.logs, outbox=False)
    true.start()
    fleet.wait(lambda: fleet.api.get("/devices/sensor-1")["quarantined_at"], "the clone to be found", WAIT_S)
    assert fleet.api.get("/devices/sensor-1")["quarantine_reason"] == "cloned-key"
    assert "edgefleet_devices_quarantined 1.0" in fleet.api.metrics().splitlines()

    for sensor in (first, second):
        sensor.write([row.values for row in dealt.rest[20:40]])
    fleet.wait(lambda: _answered(fleet, sensor_2=40), "the other device to go on", WAIT_S)
    assert _stored(fleet) == 20
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


def test_a_copy_of_the_outbox_is_found_by_what_it_records_though_the_two_never_meet(tmp_path, fleet, tissue):
    fleet.start_server(broker="auto", tasks=[tissue.task])
    empty = VirtualSensor(tmp_path / "empty.csv", tables.deal(np.random.default_rng(1)).columns)
    true = fleet.add_device("sensor-1", f"csv:{empty.file}", **WHERE)
    fleet.wait(lambda: _starts(fleet) == 1, "the device to begin", WAIT_S)
    fleet.devices.pop("sensor-1").close()
    fleet.devices["the-clone"] = _clone(true, empty.file, tmp_path / "stolen", fleet.logs, outbox=True)
    fleet.wait(lambda: _starts(fleet) == 2, "the clone to begin", WAIT_S)
    fleet.devices.pop("the-clone").close()
    assert fleet.api.get("/devices/sensor-1")["quarantined_at"] is None
    fleet.devices["sensor-1"] = true
    true.start()
    fleet.wait(lambda: fleet.api.get("/devices/sensor-1")["quarantined_at"], "the clone to be found", WAIT_S)
    assert fleet.api.get("/devices/sensor-1")["quarantine_reason"] == "twin-records"


def _starts(fleet: FleetRig) -> int:
    return sum(event["kind"] == "agent.started" for event in fleet.api.items("/events", device="sensor-1"))
