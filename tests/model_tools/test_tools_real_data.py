"""Data that nobody tuned for, through task files alone: from the file to a bundle that says how good it is."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fleet_contract.bundle import Bundle
from model_tools.build import Built, build
from model_tools.task import load_task
from tests.fakes import real_tasks

FEW = "[train]\nepochs = {}\n"
needs_corpus = pytest.mark.skipif(real_tasks.missing() is not None, reason=real_tasks.missing() or "")


def make(task: Callable[..., Path], folder: Path, more: str = "") -> Built:
    folder.mkdir()
    return build(load_task(task(folder, more)), "1.0.0", lambda _: None)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "more", "figure", "least"),
    [
        pytest.param(real_tasks.iris, "", "accuracy", 0.85, id="iris"),
        pytest.param(real_tasks.wine, "", "accuracy", 0.94, id="wine"),
        pytest.param(real_tasks.breast_cancer, "", "accuracy", 0.93, id="breast cancer"),
        pytest.param(real_tasks.breast_cancer_anomalies, "", "auc", 0.85, id="breast cancer, as anomalies"),
        pytest.param(real_tasks.digits, FEW.format(15), "accuracy", 0.93, id="digits, as vectors"),
        pytest.param(real_tasks.diabetes, "", "r2", 0.35, id="diabetes"),
        pytest.param(
            partial(real_tasks.cmapss, engines=40), FEW.format(12), "r2", 0.6, marks=needs_corpus, id="turbofan engines: life that remains"
        ),
        pytest.param(real_tasks.nab, FEW.format(20), "auc", 0.7, marks=needs_corpus, id="machine temperature: anomalies"),
        pytest.param(real_tasks.weather, FEW.format(5), "accuracy", 0.74, marks=needs_corpus, id="rain of fifty years, by order"),
    ],
)
def test_a_task_file_makes_a_useful_bundle(tmp_path: Path, task: Callable[..., Path], more: str, figure: str, least: float) -> None:
    built = make(task, tmp_path / "task", more)
    assert all(gate.passed for gate in built.gates)
    assert built.metrics[f"fp32_{figure}"] >= least
    assert built.metrics[f"int8_{figure}"] >= built.metrics[f"fp32_{figure}"] - 0.02
    (tmp_path / "made.bundle").write_bytes(built.bundle)
    manifest = Bundle(tmp_path / "made.bundle").manifest
    assert {variant.precision for variant in manifest.variants} == {"fp32", "int8"}
    assert manifest.lineage.metrics == built.metrics


@pytest.mark.e2e
@pytest.mark.parametrize(
    "task",
    [
        pytest.param(real_tasks.iris, id="vectors"),
        pytest.param(partial(real_tasks.gaits, kind="regression"), id="windows"),
        pytest.param(partial(real_tasks.gaits, kind="anomaly"), id="anomalies"),
        pytest.param(real_tasks.digit_pictures, id="pictures"),
    ],
)
def test_the_same_task_gives_the_same_bundle(tmp_path: Path, task: Callable[..., Path]) -> None:
    one, other = (
        make(task, tmp_path / name, FEW.format(3) + "[gates]\nmin_accuracy = 0\nmin_r2 = -1\nmin_auc = 0\n") for name in ("here", "there")
    )
    assert one.bundle == other.bundle
