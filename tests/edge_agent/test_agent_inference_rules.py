"""The pure rules around inference: which inputs pass, which variant is chosen, and who gets an answer."""

import numpy as np
import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.inference import proving, selection, validation
from edge_agent.inference.answering import Answerer
from edge_agent.ports import Measurement
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.signature import row_shape
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import FakeHost

PIXELS = np.full((1, 8, 8), 128, np.float32)


def _with(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed.flat[0] = value
    return changed


@pytest.mark.parametrize(
    ("spec", "values", "reason"),
    [
        pytest.param(models.VECTOR, np.array([1, 2], np.float32), None, id="vector in range"),
        pytest.param(models.VECTOR, np.array([-10, 10], np.float32), None, id="vector on its bounds"),
        pytest.param(models.VECTOR, np.array([1, 2]), None, id="whole numbers"),
        pytest.param(models.VECTOR, np.array([np.nan, 2], np.float32), "not-finite", id="vector with NaN"),
        pytest.param(models.VECTOR, np.array([1, -np.inf], np.float32), "not-finite", id="vector with infinity"),
        pytest.param(models.VECTOR, np.array([10.001, 0], np.float32), "out-of-range", id="above a column's high"),
        pytest.param(models.VECTOR, np.array([0, -11], np.float32), "out-of-range", id="below a column's low"),
        pytest.param(models.VECTOR, np.array([1, 2, 3], np.float32), "wrong-shape", id="one column more"),
        pytest.param(models.VECTOR, np.array([[1, 2]], np.float32), "wrong-shape", id="one axis more"),
        pytest.param(models.VECTOR, np.array(["1", "2"]), "wrong-shape", id="text"),
        pytest.param(models.IMAGE, PIXELS, None, id="picture in range"),
        pytest.param(models.IMAGE, _with(PIXELS, 255), None, id="white pixel"),
        pytest.param(models.IMAGE, _with(PIXELS, 256), "out-of-range", id="brighter than white"),
        pytest.param(models.IMAGE, _with(PIXELS, -1), "out-of-range", id="darker than black"),
        pytest.param(models.IMAGE, _with(PIXELS, np.nan), "not-finite", id="picture with NaN"),
        pytest.param(models.IMAGE, PIXELS[0], "wrong-shape", id="picture without channels"),
    ],
)
def test_what_may_reach_the_model(spec, values: np.ndarray, reason: str | None) -> None:
    batch, reasons = validation.split([values], spec)
    assert reasons == [reason]
    assert batch.shape == ((0 if reason else 1), *row_shape(spec))
    assert batch.dtype == np.float32


def test_the_good_rows_of_a_mixed_batch_keep_their_order() -> None:
    rows = [[1, 1], [np.nan, 0], [2, 2], [99, 0], [3, 3]]
    batch, reasons = validation.split([np.array(row, np.float32) for row in rows], models.VECTOR)
    assert batch[:, 0].tolist() == [1, 2, 3]
    assert reasons == [None, "not-finite", None, "out-of-range", None]


def _measured(variant: str, latency_us: float, memory_mb: int = 1, verdict: str = "right") -> Measurement:
    return Measurement(variant, "onnxruntime:cpu", verdict, "", latency_us, latency_us, memory_mb * 2**20)


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        pytest.param([_measured("int8", 100)], "int8", id="the only one"),
        pytest.param([_measured("int8", 110), _measured("fp32", 100)], "fp32", id="the faster one"),
        pytest.param([_measured("int8", 103, 10), _measured("fp32", 100, 20)], "int8", id="as fast but for noise, and smaller"),
        pytest.param([_measured("int8", 103, 20), _measured("fp32", 100, 20)], "int8", id="alike in everything: the maker's order"),
        pytest.param([_measured("int8", 1, verdict="wrong-answer"), _measured("fp32", 100)], "fp32", id="fast and wrong does not count"),
        pytest.param([_measured("int8", 1, verdict="child-crash")], None, id="none is right"),
        pytest.param([], None, id="none was tried"),
    ],
)
def test_the_fastest_right_one_wins(measured: list[Measurement], chosen: str | None) -> None:
    best = selection.choose(measured)
    assert (best and best.variant) == chosen


@pytest.mark.parametrize(
    ("answers", "tolerance", "code"),
    [
        pytest.param([[1.0, 2.0]], 0.0, None, id="exact"),
        pytest.param([[1.1, 2.0]], 0.2, None, id="within tolerance"),
        pytest.param([[1.3, 2.0]], 0.2, "wrong-answer", id="outside"),
        pytest.param([[np.nan, 2.0]], 0.2, "non-finite", id="NaN"),
        pytest.param([[1.0, np.inf]], np.inf, "non-finite", id="infinity, whatever the tolerance"),
        pytest.param([[1.0]], 0.2, "wrong-answer", id="fewer classes"),
        pytest.param([[1.0, 2.0]], np.nan, "wrong-answer", id="a tolerance that is no number allows nothing"),
    ],
)
def test_answers_are_held_to_the_known_ones(answers: list, tolerance: float, code: str | None) -> None:
    wanted = np.array([[1.0, 2.0]], np.float32)
    if code is None:
        assert proving.difference(np.array(answers, np.float32), wanted, tolerance) <= tolerance
        return
    with pytest.raises(Reject) as refused:
        proving.difference(np.array(answers, np.float32), wanted, tolerance)
    assert refused.value.code == code


def test_candidates_keep_the_manifests_order_and_the_profiles_backends() -> None:
    manifest = Bundle(models.bundle({"int8": models.linear(), "fp32": models.linear()})).manifest
    found = proving.candidates(manifest, catalog.load("generic-x86-64"))
    assert [candidate.variant.name for candidate in found] == ["int8", "fp32"]
    assert {candidate.backend.id for candidate in found} == {"onnxruntime:cpu"}


CRASH = Retry("gone", code="worker-crashed")
BATCH = np.array([[1, 0], [2, 0], [3, 0]], np.float32)


def _answerer(host: FakeHost) -> tuple[Answerer, list[int], list[str]]:
    pauses: list[int] = []
    failures: list[str] = []
    return Answerer(host, pauses.append, failures.append), pauses, failures


def test_a_lost_worker_costs_a_repetition() -> None:
    answerer, pauses, failures = _answerer(FakeHost(models.bundle(), {1: CRASH}))
    (answered,) = answerer.answer("input", BATCH)
    assert (answered.start, answered.stop, answered.reason) == (0, 3, None)
    assert (pauses, failures) == ([0], ["worker-crashed"])


def test_a_row_that_kills_the_worker_costs_only_itself() -> None:
    host = FakeHost(models.bundle())
    host.poison = lambda batch: CRASH if (batch[:, 0] == 2).any() else None
    answerer, _, failures = _answerer(host)
    answered = answerer.answer("input", BATCH)
    assert [(a.start, a.stop, a.reason) for a in answered] == [(0, 1, None), (1, 2, "worker-crashed"), (2, 3, None)]
    assert failures == ["worker-crashed"] * 4


def test_a_row_whose_answer_is_rejected_costs_only_itself() -> None:
    host = FakeHost(models.bundle())
    host.poison = lambda batch: Reject("NaN", code="non-finite") if (batch[:, 0] == 3).any() else None
    answerer, pauses, _ = _answerer(host)
    assert [a.reason for a in answerer.answer("input", BATCH)] == [None, None, "answer-non-finite"]
    assert pauses == []


@pytest.mark.parametrize("code", ["no-model", "worker-unavailable"])
def test_without_a_worker_the_batch_waits(code: str) -> None:
    host = FakeHost(models.bundle(), dict.fromkeys(range(1, 9), Retry("not yet", code=code)))
    answerer, pauses, _ = _answerer(host)
    assert [a.reason for a in answerer.answer("input", BATCH)] == [None]
    assert pauses == list(range(8))


def test_a_batch_for_another_model_goes_back_to_the_caller() -> None:
    answerer, _, _ = _answerer(FakeHost(models.bundle(), {1: Retry("other shape", code="model-swapped")}))
    with pytest.raises(Retry):
        answerer.answer("input", BATCH)
