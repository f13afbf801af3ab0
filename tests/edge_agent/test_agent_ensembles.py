"""Several models as one: what is averaged, what is voted on, and what cannot be."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from edge_agent.catalogue import ModelView, Prediction
from edge_agent.errors import Fatal, Reject, Retry
from edge_agent.inference.ensemble import Ensemble, Member
from edge_agent.inference.models import Models
from edge_agent.inference.voting import Said, average, vote
from edge_agent.ports import Tensors
from fleet_contract.answers import answer
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, State, Variant
from fleet_contract.outputs import Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold
from fleet_contract.signature import signature_of
from fleet_contract.tensors import TensorSpec

INPUT = VectorInput(tensor="x", columns=["a"], low=[0.0], high=[1.0])
NO_INPUTS: Tensors = {}
CLASSES = ["no", "perhaps", "yes"]


def manifest(output: OutputSpec, *, spec: VectorInput = INPUT, version: str = "1", states: Sequence[State] = ()) -> Manifest:
    return Manifest(
        task="toy",
        version=version,
        input=spec,
        output=output,
        states=list(states),
        variants=[Variant(name="fp32", entry="fp32.onnx", runtime="onnxruntime", precision="fp32", tolerance=1e-3)],
        known_answers="known",
        reference="reference",
        card="card",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=0, code="test"),
        entries={},
    )


def said(output: OutputSpec, values, weight: float = 1.0, *, tensor: str = "y", dtype: str = "float32") -> Said:
    return Said(manifest(output), {tensor: np.array(values, dtype)}, weight)


def classes(**changes) -> Classification:
    return Classification(tensor="y", classes=CLASSES, **changes)


def logits(*shares: float, temperature: float = 1.0) -> list[list[float]]:
    return [[float(np.log(share) * temperature) for share in shares]]


def probabilities(output: Classification, answers: Tensors) -> np.ndarray:
    told = answer(manifest(Classification(tensor="y", classes=output.classes, activation=output.activation, top_k=3)), NO_INPUTS, answers)
    detail = told.details[0]
    return np.array([detail.values[detail.labels.index(name)] for name in output.classes])


class TestAverage:
    def test_of_classes_it_is_the_mean_of_probabilities(self) -> None:
        first, second = said(classes(), logits(0.8, 0.1, 0.1)), said(classes(), logits(0.2, 0.6, 0.2))
        assert probabilities(classes(), average([first, second])) == pytest.approx([0.5, 0.35, 0.15], abs=1e-5)

    def test_weights_are_shares(self) -> None:
        first, second = said(classes(), logits(0.8, 0.1, 0.1), 3), said(classes(), logits(0.2, 0.6, 0.2), 1)
        assert probabilities(classes(), average([first, second])) == pytest.approx([0.65, 0.225, 0.125], abs=1e-5)

    def test_each_member_is_calibrated_by_its_own_temperature(self) -> None:
        hot = said(classes(temperature=4.0), logits(0.2, 0.6, 0.2, temperature=4.0))
        found = average([said(classes(), logits(0.8, 0.1, 0.1)), hot])
        assert probabilities(classes(), found) == pytest.approx([0.5, 0.35, 0.15], abs=1e-5)

    @pytest.mark.parametrize("activation", ["softmax", "none"])
    def test_of_a_sure_zero_no_infinity_comes(self, activation: str) -> None:
        sure = said(classes(activation="none"), [[0.0, 0.0, 1.0]])
        found = average([said(classes(activation=activation), [[0.0, 0.0, 1.0]]), sure])
        assert np.isfinite(found["y"]).all()

    def test_of_a_threshold(self) -> None:
        output = Threshold(tensor="y", labels=("low", "high"), activation="none", threshold=0.5)
        assert average([said(output, [[0.2]]), said(output, [[0.9]])])["y"] == pytest.approx(0.55)

    def test_of_figures_in_their_units_whatever_each_graph_scales_by(self) -> None:
        celsius = Regression(tensor="y", targets=["t"], scale=[10.0], offset=[5.0], units=["C"])
        raw = Regression(tensor="y", targets=["t"], scale=[1.0], offset=[0.0], units=["C"])
        found = average([said(celsius, [[1.0]]), said(raw, [[25.0]])])
        assert answer(manifest(celsius), NO_INPUTS, found).values == pytest.approx([20.0])

    def test_of_scores(self) -> None:
        output = Anomaly(tensor="y", threshold=1.0)
        assert average([said(output, [[1.0]], 1), said(output, [[4.0]], 2)])["y"] == pytest.approx(3.0)

    def test_of_raw_floats_in_their_own_type(self) -> None:
        output = Raw(tensors=[TensorSpec("y", "float16", [-1, 2])])
        found = average([said(output, [[1, 2]], dtype="float16"), said(output, [[3, 4]], dtype="float16")])["y"]
        assert (found.dtype, found.tolist()) == (np.float16, [[2, 3]])


class TestVote:
    def test_the_weight_behind_each_class_is_its_share(self) -> None:
        ballots = [
            said(classes(), logits(0.4, 0.3, 0.3), 2),
            said(classes(), logits(0.1, 0.1, 0.8)),
            said(classes(), logits(0.0001, 0.3, 0.6)),
        ]
        assert probabilities(classes(), vote(ballots)) == pytest.approx([0.5, 0, 0.5], abs=1e-5)

    def test_a_majority_wins_over_a_sure_one(self) -> None:
        ballots = [
            said(classes(), logits(0.98, 0.01, 0.01)),
            said(classes(), logits(0.3, 0.4, 0.3)),
            said(classes(), logits(0.3, 0.4, 0.3)),
        ]
        assert answer(manifest(classes()), NO_INPUTS, vote(ballots)).labels == ["perhaps"]
        assert answer(manifest(classes()), NO_INPUTS, average(ballots)).labels == ["no"]

    def test_each_threshold_is_the_members_own(self) -> None:
        strict = Threshold(tensor="y", labels=("low", "high"), threshold=0.9, activation="none")
        loose = Threshold(tensor="y", labels=("low", "high"), threshold=0.1, activation="none")
        assert vote([said(strict, [[0.5]], 1), said(loose, [[0.5]], 3)])["y"] == pytest.approx(0.75)


BOXES = Detection(boxes="y", scores="s", classes=["face"])
COUNTS = Raw(tensors=[TensorSpec("y", "int64", [-1])])
REMEMBERED = State(input="h", output="h2", dtype="float32", shape=[1, 2])
UNFIT = [
    pytest.param(average, [said(BOXES, [[[0, 0, 1, 1]]])] * 2, id="a mean of boxes"),
    pytest.param(average, [said(COUNTS, [3], dtype="int64")] * 2, id="a mean of counts"),
    pytest.param(vote, [said(Anomaly(tensor="y", threshold=1.0), [[1.0]])] * 2, id="a vote on scores"),
    pytest.param(
        average, [said(classes(), [[1, 2, 3]]), said(Classification(tensor="y", classes=["a", "b", "c"]), [[1, 2, 3]])], id="classes"
    ),
    pytest.param(average, [said(Anomaly(tensor="y", threshold=1.0), [[1.0]]), said(classes(), [[1, 2, 3]])], id="kinds"),
    pytest.param(average, [said(classes(), [[1, 2, 3]]), said(classes(), [[1, 2, 3]] * 2)], id="rows"),
    pytest.param(average, [Said(manifest(classes(), states=[REMEMBERED]), {"y": np.zeros((1, 3))}, 1)] * 2, id="a member that remembers"),
]


@pytest.mark.parametrize(("combine", "members"), UNFIT)
def test_what_cannot_be_one_is_refused(combine, members: list[Said]) -> None:
    with pytest.raises(Reject) as refused:
        combine(members)
    assert refused.value.code == "no-ensemble"


class FixedModel:
    """Implements catalogue.Predictor: always says the same."""

    def __init__(self, name: str, values, *, version: str = "1", spec: VectorInput = INPUT, error: Exception | None = None) -> None:
        self.name = name
        self._manifest = manifest(classes(), spec=spec, version=version)
        self._view = ModelView(name, version, "onnx_onnxv1", signature_of(self._manifest), spec)
        self._values, self._error = np.array(values, np.float32), error
        self.is_ready = True

    def view(self) -> ModelView | None:
        return self._view if self.is_ready else None

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        if self._error:
            raise self._error
        return Prediction(self.name, self._view.version, self._manifest, {"y": self._values}, len(self.name))


class SlowModel(FixedModel):
    """Answers once `open` is set."""

    def __init__(self, name: str, values) -> None:
        super().__init__(name, values)
        self.open = threading.Event()
        self.under_way = 0

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        self.under_way += 1
        assert self.open.wait(30)
        self.under_way -= 1
        return super().predict(inputs)


@pytest.fixture
def make(request: pytest.FixtureRequest):
    def make(*models: FixedModel) -> Ensemble:
        ensemble = Ensemble("both", [Member(model, 1.0) for model in models], average)
        request.addfinalizer(ensemble.close)
        return ensemble

    return make


class TestEnsemble:
    def test_its_answer(self, make) -> None:
        found = make(FixedModel("a", logits(0.8, 0.1, 0.1)), FixedModel("slower", logits(0.2, 0.6, 0.2), version="2")).predict(NO_INPUTS)
        assert probabilities(classes(), found.outputs) == pytest.approx([0.5, 0.35, 0.15], abs=1e-5)
        assert (found.model, found.version, found.latency_us) == ("both", "1+2", len("slower"))

    def test_its_view_is_the_same_object_until_a_member_changes(self, make) -> None:
        first, second = FixedModel("a", [[0, 0, 1]]), FixedModel("b", [[0, 0, 1]])
        ensemble = make(first, second)
        view = ensemble.view()
        assert (view.name, view.platform) == ("both", "ensemble")
        assert ensemble.view() is view
        first._view = FixedModel("a", [[0, 0, 1]], version="9").view()
        assert ensemble.view().version == "9+1"

    def test_it_is_ready_with_all_its_members(self, make) -> None:
        late = FixedModel("b", [[0, 0, 1]])
        ensemble = make(FixedModel("a", [[0, 0, 1]]), late)
        late.is_ready = False
        assert ensemble.view() is None

    def test_a_members_failure_is_its_own(self, make) -> None:
        with pytest.raises(Retry, match="gone"):
            make(FixedModel("a", [[0, 0, 1]]), FixedModel("b", [], error=Retry("gone", code="worker-crashed"))).predict(NO_INPUTS)

    def test_nobody_is_asked_any_longer_once_a_member_has_failed(self, make) -> None:
        slow = SlowModel("b", [[0, 0, 1]])
        failing = FixedModel("a", [], error=Retry("gone", code="worker-crashed"))
        ensemble = make(failing, slow)
        for _ in range(3):
            threading.Timer(0.02, slow.open.set).start()
            with pytest.raises(Retry, match="gone"):
                ensemble.predict(NO_INPUTS)
            slow.open.clear()
        assert slow.under_way == 0

    def test_members_of_other_inputs(self, make) -> None:
        other = VectorInput(tensor="z", columns=["a"], low=[0.0], high=[1.0])
        with pytest.raises(Reject, match="'b' does not take the inputs of 'a'"):
            make(FixedModel("a", [[0, 0, 1]]), FixedModel("b", [[0, 0, 1]], spec=other)).view()


class TestModels:
    def test_by_name(self) -> None:
        models = Models([FixedModel("a", []), FixedModel("b", [])])
        assert models.names() == ["a", "b"]
        assert models.find("b").name == "b"
        assert models.find("c") is None

    def test_a_name_is_one_models(self) -> None:
        with pytest.raises(Fatal, match="'a'"):
            Models([FixedModel("a", []), FixedModel("a", [])])
