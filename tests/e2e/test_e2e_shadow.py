"""A fleet runs a new bundle beside the old one, is told how they compare, and then takes it without fetching it again."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from examples.sensors import tables
from hil import watch, workbench
from hil.camera import VirtualSensor
from hil.fleet import FleetRig

WAIT_S = 60.0
GATE_INPUTS = 25
"""Of the example's task file."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def _newest(fleet: FleetRig, known: str = "") -> str:
    return next(item["sha256"] for item in fleet.api.items("/bundles") if item["sha256"] != known)


def _ended(fleet: FleetRig, rollout: int) -> dict | None:
    found = fleet.api.get(f"/rollouts/{rollout}")
    return found if found["state"] in ("done", "stopped") else None


def _runs(fleet: FleetRig, bundle: str, beside: str | None) -> bool:
    device = fleet.api.get("/devices/sensor-1")
    return (device["bundle"], device["shadow"], device["phase"]) == (bundle, beside, "idle")


def test_a_bundle_runs_beside_the_other_before_it_answers(tmp_path: Path, fleet: FleetRig, tissue, mosquitto) -> None:
    fleet.start_server(broker="mosquitto", tasks=[tissue.task])
    fleet.publish(tissue.bundle)
    dealt = tables.deal(np.random.default_rng(1))
    sensor, rows = VirtualSensor(tmp_path / "rows.csv", dealt.columns), iter(dealt.rest)
    fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue")
    champion = _newest(fleet)
    fleet.wait(lambda: watch.running(fleet.api, lambda text: None, champion, ("sensor-1",)), "the first bundle", WAIT_S)
    workbench.build(tissue.task, tmp_path / "next.bundle", "2.0.0")
    fleet.publish(tmp_path / "next.bundle", rollout=False)
    challenger = _newest(fleet, champion)

    rollout = fleet.api.post("/rollouts", {"bundle": challenger, "shadow": True})["id"]
    fleet.wait(lambda: _runs(fleet, champion, challenger), "the shadow", WAIT_S)

    def measured() -> dict | None:
        sensor.write([row.values for row in islice(rows, 2)])
        return _ended(fleet, rollout)

    done = fleet.wait(measured, "the shadow's end", WAIT_S)
    told = done["compared"]["sensor-1"]
    assert (done["state"], told["inputs"] >= GATE_INPUTS, told["agreement"] > 0.5) == ("done", True, True), done
    assert told["latency_us"] > 0 and told["candidate_latency_us"] > 0
    fleet.wait(lambda: _runs(fleet, champion, None), "the device without it", WAIT_S)
    assert {item["bundle"] for item in fleet.api.items("/telemetry", device="sensor-1")} == {champion}

    fleet.api.post("/rollouts", {"bundle": challenger})
    fleet.wait(lambda: _runs(fleet, challenger, None), "the second bundle", WAIT_S)
    fetched = [event["detail"] for event in fleet.api.items("/events", device="sensor-1", kind="update.verifying")]
    assert fetched[-1]["bytes"] == 0
