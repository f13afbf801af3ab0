"""A bundle comes to real devices by every way that there is, and a device that dies in the middle goes on with what it has."""

import numpy as np
import pytest

from examples.sensors import tables
from hil import watch
from hil.camera import VirtualSensor
from hil.device import DeviceRig
from hil.fleet import FleetRig

WAIT_S = 60.0
WAYS = {"by-https": ["--transport", "http"], "by-mqtt": ["--transport", "mqtt"], "alone": ["--metered", "--download-rate", "1000000"]}
SLOW = ["--download-rate", "8192"]
"""The bundle has some 80 kB."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def _fetched(fleet: FleetRig, device: str) -> list[dict]:
    return [event["detail"] for event in fleet.api.items("/events", device=device, kind="update.verifying")]


def _percent(device: DeviceRig) -> int:
    download = (device.status()["link"] or {}).get("download") or {}
    return download.get("percent", 0)


def test_a_bundle_comes_by_every_way_and_is_never_begun_anew(tmp_path, fleet, tissue, mosquitto):
    fleet.start_server(broker="mosquitto", tasks=[tissue.task])
    fleet.publish(tissue.bundle)
    length = tissue.bundle.stat().st_size
    sensor = VirtualSensor(tmp_path / "rows.csv", tables.deal(np.random.default_rng(1)).columns)
    where = {"profile": "generic-x86-64", "task": "tissue"}
    slow = fleet.add_device("slow", f"csv:{sensor.file}", **where, options=SLOW)
    for name, options in WAYS.items():
        fleet.add_device(name, f"csv:{sensor.file}", **where, options=options)

    half = fleet.wait(lambda: percent if (percent := _percent(slow)) >= 20 else None, "a part of the download", WAIT_S)
    slow.kill()
    slow.options = []
    slow.start()
    bundle = next(fleet.api.items("/bundles"))["sha256"]
    fleet.wait(lambda: watch.running(fleet.api, lambda text: None, bundle, (*WAYS, "slow")), "the bundle on all devices", WAIT_S)
    fleet.wait(lambda: all(_fetched(fleet, name) for name in (*WAYS, "slow")), "how it came", WAIT_S)

    came = {name: _fetched(fleet, name) for name in (*WAYS, "slow")}
    assert {name: [detail["way"] for detail in details] for name, details in came.items()} == {
        "by-https": ["http"],
        "by-mqtt": ["mqtt"],
        "alone": ["mqtt"],
        "slow": ["mqtt"],
    }
    assert {detail["bytes"] + detail["reused_bytes"] for details in came.values() for detail in details} == {length}
    assert came["slow"][0]["reused_bytes"] >= length * half // 100
