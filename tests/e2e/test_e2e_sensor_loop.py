"""The whole loop on a table of sensor values: a task file alone, no code. One device's scale goes wrong; the fleet is repaired."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from examples.sensors import tables
from hil import watch
from hil.camera import VirtualSensor
from hil.fleet import FleetRig

HEALTHY, SHIFTED = "sensor-1", "sensor-2"
BOTH = (HEALTHY, SHIFTED)
WAIT_S = 90.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


class Bench:
    """Two sensors, the rows they have yet to measure, and the truth about those they have."""

    def __init__(self, folder: Path) -> None:
        dealt = tables.deal(np.random.default_rng(1))
        self.columns, self._rest = dealt.columns, iter(dealt.rest)
        self.sensors = {name: VirtualSensor(folder / f"{name}.csv", dealt.columns) for name in BOTH}
        self.truth: dict[str, list[str]] = {name: [] for name in BOTH}

    def measure(self, sensor: str, count: int, *, shifted: bool = False) -> None:
        rows = [next(self._rest) for _ in range(count)]
        self.truth[sensor] += [row.label for row in rows]
        self.sensors[sensor].write([(tables.miscalibrate(row, self.columns) if shifted else row).values for row in rows])

    def written(self) -> dict[str, int]:
        return {name: len(truth) for name, truth in self.truth.items()}


def _until_answered(fleet: FleetRig, bench: Bench) -> None:
    fleet.wait(lambda: watch.answered(fleet.api, _mute, bench.written()), "a result of every row", WAIT_S)


def _until_running(fleet: FleetRig, bundle: str, devices: tuple[str, ...]) -> None:
    fleet.wait(lambda: watch.running(fleet.api, _mute, bundle, devices), f"the bundle on {devices}", WAIT_S)


def _mute(_text: str) -> None:
    return None


def test_the_loop_closes_with_a_task_file_alone(tmp_path, fleet, tissue, broker):
    bench = Bench(tmp_path)
    champion = _release(fleet, bench, tissue, broker)
    _until_running(fleet, champion, BOTH)
    for sensor in BOTH:
        bench.measure(sensor, 30)
    _until_answered(fleet, bench)

    finding = _shift(fleet, bench)
    _label(fleet, bench, finding)
    job = fleet.wait(lambda: watch.finished_job(fleet.api, _mute, finding), "the retraining job", WAIT_S)
    assert job["state"] == "accepted", (job["reason"], job["gates"])
    challenger = job["bundle"]

    _until_running(fleet, challenger, (SHIFTED,))
    assert _bundle_of(fleet, HEALTHY) == champion, "the others wait for the canary"
    bench.measure(SHIFTED, 50, shifted=True)
    _until_running(fleet, challenger, (HEALTHY,))
    bench.measure(HEALTHY, 20)
    _until_answered(fleet, bench)
    fleet.wait(lambda: watch.rolled_out(fleet.api, _mute, challenger), "the rollout's end", WAIT_S)

    assert {item["device"] for item in fleet.api.items("/drift")} == {SHIFTED}
    _assert_measured(fleet, champion, challenger)
    _assert_repaired(fleet, bench, champion, challenger)
    _assert_every_number_adds_up(fleet, bench)


def _assert_measured(fleet: FleetRig, *bundles: str) -> None:
    """Both devices have told what each variant showed, and which of them they chose."""
    for bundle in bundles:
        shown = list(fleet.api.items(f"/bundles/{bundle}/measurements"))
        assert {item["profile"] for item in shown} == {"generic-x86-64"}
        assert sum(item["chosen"] for item in shown) == len(BOTH)
        assert all(item["verdicts"] == {"right": len(BOTH)} and 0 < item["p50_us"] <= item["p99_us"] for item in shown)


def _release(fleet: FleetRig, bench: Bench, tissue, broker: str) -> str:
    """Server up, champion published, both devices enrolled; returns the champion."""
    fleet.start_server(broker=broker, tasks=[tissue.task])
    assert fleet.api.get("/health")["broker"]["kind"] == broker
    fleet.publish(tissue.bundle)
    for name in BOTH:
        fleet.add_device(name, f"csv:{bench.sensors[name].file}", profile="generic-x86-64", task="tissue")
    return next(fleet.api.items("/bundles"))["sha256"]


def _shift(fleet: FleetRig, bench: Bench) -> int:
    """One sensor's scale goes wrong, until the server has found it and has asked for samples."""
    bench.measure(SHIFTED, 70, shifted=True)
    found = fleet.wait(lambda: list(fleet.api.items("/drift")), "a drift finding", WAIT_S)
    assert [item["device"] for item in found] == [SHIFTED]
    finding = found[0]["id"]
    fleet.wait(lambda: watch.finding_state(fleet.api, _mute, finding) != "open", "the order to sample", WAIT_S)
    bench.measure(SHIFTED, 90, shifted=True)
    return finding


def _label(fleet: FleetRig, bench: Bench, finding: int) -> None:
    samples = fleet.wait(lambda: watch.chosen_samples(fleet.api, _mute, finding), "the chosen rows", WAIT_S)
    assert 0 < len(samples) <= 40
    assert {sample["media_type"] for sample in samples} == {"application/json"}
    labels = [{"sample": sample["id"], "label": _truth(bench, SHIFTED, sample["input_id"])} for sample in samples]
    assert fleet.api.post("/labels", {"labels": labels})["stored"] == len(samples)


def _truth(bench: Bench, device: str, input_id: str) -> str:
    return bench.truth[device][int(input_id) - 1]


def _bundle_of(fleet: FleetRig, device: str) -> str:
    return fleet.api.get(f"/devices/{device}")["bundle"]


def _assert_repaired(fleet: FleetRig, bench: Bench, champion: str, challenger: str) -> None:
    """On shifted rows that no label was given for, the challenger beats the champion on the shifted rows before it."""
    rows = [row for row in fleet.api.items("/telemetry", device=SHIFTED) if int(row["input_id"]) > 30]
    right = {
        bundle: np.mean([row["label"] == _truth(bench, SHIFTED, row["input_id"]) for row in rows if row["bundle"] == bundle])
        for bundle in (champion, challenger)
    }
    assert right[challenger] >= right[champion] + 0.1
    assert right[challenger] >= 0.85


def _assert_every_number_adds_up(fleet: FleetRig, bench: Bench) -> None:
    rows = fleet.wait(lambda: watch.settled_ledger(fleet.api, _mute), "the ledgers to settle", WAIT_S)
    assert all(row["produced"] == row["stored"] and not row["dropped"] for row in rows)
    results = Counter((row["device"], row["input_id"]) for row in fleet.api.items("/telemetry"))
    assert {*results.values()} == {1}
    assert Counter(device for device, _ in results) == bench.written()
