"""What the workbench builds, as a device takes it: proven in the sandbox, answered from a file as the workbench itself says, judged for drift."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from edge_agent.pipeline import Pipeline
from edge_agent.sources.factory import open_source
from firmware_profiles import catalog
from fleet_contract import answers
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import WindowInput
from fleet_contract.messages import Result, SketchWindow
from fleet_contract.outputs import Anomaly
from fleet_contract.sketch import decode_reference
from fleet_server.domain import drift
from model_tools import workbench
from model_tools.build import build
from tests.fakes import real_tasks
from tests.fakes.agent_run_world import FakeStore
from tests.fakes.running_pipeline import running

QUICK = """
[train]
epochs = 4
[quantize]
ranges = "minmax"
[gates]
min_accuracy = 0
min_r2 = -1
min_auc = 0
max_int8_drop = 1
[policy.drift]
window_inputs = 120
"""
STREAM = partial(real_tasks.gaits, machines=9)


@dataclass(frozen=True)
class Desk:
    """A bundle, the data that it came of, rows as a healthy device meets them, one after the other, and a device."""

    bundle: Bundle
    splits: workbench.Splits
    healthy: np.ndarray
    host: InferenceHost
    variant: str

    @property
    def columns(self) -> Sequence[str]:
        return self.bundle.manifest.input.columns

    def run(self, rows: np.ndarray, folder: Path) -> FakeStore:
        """What the agent stores of these rows, that a file holds."""
        with (folder / "stream.csv").open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *(map(repr, row) for row in rows.astype(float).tolist())])
        spec, store = self.bundle.manifest.input, FakeStore()
        wanted = (len(rows) - spec.length) // spec.stride + 1 if isinstance(spec, WindowInput) else len(rows)
        with (
            closing(open_source(f"csv:{folder}/stream.csv", SystemClock())) as source,
            running(Pipeline(source, self.host, store, SystemClock())),
        ):
            store.wait_until(lambda: len(store.of(Result)) == wanted)
        return store

    def alarms(self, store: FakeStore) -> bool:
        """As the server judges the windows that it is sent."""
        reference = decode_reference(self.bundle.read(self.bundle.manifest.reference))
        policy, streak, found = self.bundle.manifest.policy.drift, 0, False
        for at, window in enumerate(store.of(SketchWindow), start=1):
            streak = drift.streak(streak, drift.judge(window.sketch, reference, policy, at).verdict)
            found |= drift.alarms(streak, policy)
        return found


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(STREAM, id="window classification"),
        pytest.param(partial(STREAM, kind="anomaly"), id="window anomalies"),
        pytest.param(real_tasks.diabetes, id="vector regression"),
    ],
)
def desk(request, tmp_path_factory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    make: Callable[[Path, str], Path] = request.param
    task = workbench.load_task(make(folder, QUICK))
    bundle = Bundle(build(task, "1.0", lambda _: None).bundle)
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    try:
        proof = host.prove(bundle)
        assert {m.verdict for m in proof.measurements} == {"right"}
        host.activate(bundle)
        yield Desk(bundle, workbench.read_splits(task), met(folder, bundle), host, proof.chosen.variant)
    finally:
        host.close()


def met(folder: Path, bundle: Bundle) -> np.ndarray:
    """The file's rows, but for those that an anomaly detector is to find."""
    odd = {"shaking"} if isinstance(bundle.manifest.output, Anomaly) else set()
    with next(folder.glob("*.csv")).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("state") not in odd]
    return np.array([[float(row[column]) for column in bundle.manifest.input.columns] for row in rows])


def test_a_device_answers_as_the_workbench_does(desk: Desk, tmp_path: Path) -> None:
    manifest, rows = desk.bundle.manifest, desk.splits.test.select(np.arange(20))
    windows = isinstance(manifest.input, WindowInput)
    newest = rows.inputs[1:, -manifest.input.stride :].reshape(-1, len(desk.columns)) if windows else None
    stream = np.concatenate([rows.inputs[0], newest]) if windows else rows.inputs
    told = desk.run(stream, tmp_path).of(Result)
    variant = next(v for v in manifest.variants if v.name == desk.variant)
    outputs = workbench.evaluate(desk.bundle.read(variant.entry), rows, manifest.output).outputs
    said = answers.answer(manifest, {manifest.input.tensor: rows.inputs}, {manifest.output.tensor: outputs})
    assert [result.label for result in told] == said.labels
    assert [result.value for result in told] == pytest.approx(said.values, rel=1e-5)


def test_a_healthy_stream_raises_no_alarm_and_a_shifted_one_does(desk: Desk, tmp_path: Path) -> None:
    assert not desk.alarms(desk.run(desk.healthy, tmp_path))
    shifted = desk.healthy.copy()
    shifted[:, -1] += 3 * shifted[:, -1].std()
    assert desk.alarms(desk.run(shifted, tmp_path))
