"""A disk that is changed under a device: what waited on it is missing, named by its first number, until a person accepts the loss."""

from pathlib import Path

import numpy as np
import pytest

from examples.sensors import tables
from hil.camera import VirtualSensor
from hil.device import DeviceRig
from hil.fleet import FleetRig

WAIT_S = 60.0
ROWS = 30
QUIET = """
[uplink]
heartbeat_s = 1.0
quiet_hours = ["00:00-12:00", "12:00-00:00"]
zone = "UTC"
[clock]
trust = "always"
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def _lines(fleet: FleetRig) -> dict[str, tuple[int, int, int]]:
    """Produced, queued and stored of each epoch of the telemetry."""
    found = [line for line in fleet.api.items("/ledger", device="sensor-1") if line["lane"] == "telemetry"]
    return {line["epoch"]: (line["produced"], line["queued"], line["stored"]) for line in found}


def _missing(fleet: FleetRig) -> dict[str, dict]:
    """The open alerts of missing records, by lane."""
    return {each["lane"]: each for each in fleet.api.items("/alerts", device="sensor-1", kind="ledger-missing", open=True)}


def _lose_outbox(device: DeviceRig) -> None:
    device.close()
    for path in device.state.glob("outbox.db*"):
        path.unlink()
    device.options = []
    device.start()


def test_what_waited_in_an_outbox_that_is_gone_is_an_alert_until_a_person_accepts_it(tmp_path: Path, fleet: FleetRig, tissue) -> None:
    fleet.start_server(broker="auto", tasks=[tissue.task])
    fleet.publish(tissue.bundle)
    dealt = tables.deal(np.random.default_rng(1))
    sensor = VirtualSensor(tmp_path / "rows.csv", dealt.columns)
    sensor.write([row.values for row in dealt.rest[:ROWS]])
    quiet = tmp_path / "quiet.toml"
    quiet.write_text(QUIET)
    device = fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue", options=["--config", str(quiet)])
    fleet.wait(lambda: [*_lines(fleet).values()] == [(ROWS, ROWS, 0)], "everything to wait on the device", WAIT_S)
    [gone] = _lines(fleet)

    _lose_outbox(device)
    fleet.wait(lambda: {"telemetry", "sketches"} <= _missing(fleet).keys(), "the loss to be told", WAIT_S)
    told = [(each["epoch"], each["lane"], each["detail"]) for each in _missing(fleet).values() if each["lane"] == "telemetry"]
    assert told == [(gone, "telemetry", {"lost": ROWS, "first_missing": 0})]
    fleet.wait(lambda: (ROWS, 0, ROWS) in _lines(fleet).values(), "the rows to be read again, and stored", WAIT_S)

    for each in _missing(fleet).values():
        fleet.api.post(f"/alerts/{each['id']}/accept", {})
    assert _missing(fleet) == {}
    assert all(line["balanced"] for line in fleet.api.items("/ledger", device="sensor-1") if line["epoch"] == gone)
