"""What outputs mean: each kind of post-processing against cases worked out by hand, and against plain definitions."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract import answers, features, limits
from fleet_contract.answers import Answers
from fleet_contract.answers.boxes import corners_of, suppress
from fleet_contract.answers.classes import sigmoid, softmax
from fleet_contract.answers.detail import Boxes, Detail, Ranking, Targets
from fleet_contract.bundle import Bundle, KnownAnswers, pack
from fleet_contract.errors import BadBundle
from fleet_contract.inputs import ImageInput, InputSpec, VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Abstention, Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold
from fleet_contract.tensors import TensorSpec

VECTOR = VectorInput(tensor="x", columns=["a", "b"], low=[-10, -10], high=[10, 10])
IMAGE = ImageInput(tensor="x", height=2, width=2, channels=1, scale=1 / 255, offset=-0.5)
CLASSES = Classification(tensor="y", classes=["a", "b", "c"], activation="none")
FACES = Detection(boxes="boxes", scores="scores", classes=["background", "face"], background=True, iou_threshold=0.5)


def manifest_of(output: OutputSpec, given: InputSpec = VECTOR) -> Manifest:
    return Manifest(
        task="t",
        version="1",
        input=given,
        output=output,
        variants=[Variant(name="fp32", entry="m", runtime="onnxruntime", precision="fp32", tolerance=0)],
        known_answers="k",
        reference="r",
        card="c",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=0, code="test"),
        entries={},
    )


def ask(output: OutputSpec, *, given: InputSpec = VECTOR, x: object = (), priors: np.ndarray | None = None, **outputs: object) -> Answers:
    made = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    found = answers.answer(manifest_of(output, given), {"x": np.asarray(x, np.float32)}, made, priors)
    assert found.features.dtype == np.float32
    assert found.features.shape == (found.rows, len(features.output_names(output)))
    return found


def row_of(found: Answers) -> tuple[str | None, float, float, bool]:
    return found.labels[0], found.values[0], found.margins[0], found.abstained[0]


SHARES = [0.2, 0.7, 0.1]
LOGITS = [math.log(share) for share in SHARES]


@pytest.mark.parametrize(
    ("changes", "raw", "row"),
    [
        pytest.param({}, SHARES, ("b", 0.7, 0.5, False), id="as it is"),
        pytest.param({"activation": "softmax"}, LOGITS, ("b", 0.7, 0.5, False), id="softmax"),
        pytest.param(
            {"activation": "softmax", "temperature": 2.0}, LOGITS, ("b", 0.52288, 0.24339, False), id="softmax of twice the temperature"
        ),
        pytest.param({"activation": "sigmoid"}, [0, 2, -1], ("b", 0.88080, 0.38080, False), id="sigmoid"),
        pytest.param({}, [0.4, 0.4, 0.2], ("a", 0.4, 0.0, False), id="the first of equals"),
        pytest.param({"abstain": Abstention(below=0.75)}, SHARES, (None, 0.7, 0.5, True), id="not sure enough"),
        pytest.param({"abstain": Abstention(below=0.75, fallback="ask")}, SHARES, ("ask", 0.7, 0.5, True), id="a fallback"),
        pytest.param({"abstain": Abstention(below=0.7, fallback="ask")}, [0.1, 0.75, 0.15], ("b", 0.75, 0.6, False), id="sure enough"),
    ],
)
def test_classification(changes: dict, raw: list[float], row: tuple) -> None:
    found = ask(msgspec.structs.replace(CLASSES, **changes), y=[raw])
    assert row_of(found) == (row[0], pytest.approx(row[1], abs=1e-5), pytest.approx(row[2], abs=1e-5), row[3])
    assert found.details == [None]


def test_the_likeliest_classes_are_told_best_first() -> None:
    found = ask(msgspec.structs.replace(CLASSES, top_k=2), y=[SHARES, [0.3, 0.3, 0.4]])
    assert [detail.labels for detail in found.details if isinstance(detail, Ranking)] == [["b", "a"], ["c", "a"]]
    assert found.details[0].values == pytest.approx([0.7, 0.2])


@pytest.mark.parametrize(
    ("activation", "raw", "entropy"),
    [
        pytest.param("softmax", [1, 1, 1], 1.0, id="no class is likelier"),
        pytest.param("softmax", [99, 0, 0], 0.0, id="one class is certain"),
        pytest.param("sigmoid", [0, 0, 0], 1.0, id="each class may be or not"),
        pytest.param("sigmoid", [30, -30, 30], 0.0, id="each class is certain"),
        pytest.param("none", [1, 1, 1], 0.0, id="three certain ones"),
        pytest.param("none", [0.5, 0.5, 0], math.log(2) / math.log(3), id="one of two"),
    ],
)
def test_entropy_is_a_share_of_its_maximum(activation: str, raw: list[float], entropy: float) -> None:
    found = ask(msgspec.structs.replace(CLASSES, activation=activation), y=[raw])
    assert found.features[0, 1] == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize(
    ("threshold", "activation", "raw", "row"),
    [
        pytest.param(0.5, "none", 0.9, ("yes", 0.9, 0.4), id="above"),
        pytest.param(0.5, "none", 0.5, ("yes", 0.5, 0.0), id="on it"),
        pytest.param(0.5, "none", 0.2, ("no", 0.8, 0.3), id="below"),
        pytest.param(0.3, "none", 0.4, ("yes", 0.4, 0.1), id="a careful threshold"),
        pytest.param(0.5, "sigmoid", 1.0, ("yes", 0.73106, 0.23106), id="a logit"),
    ],
)
def test_threshold(threshold: float, activation: str, raw: float, row: tuple[str, float, float]) -> None:
    found = ask(Threshold(tensor="y", labels=("no", "yes"), threshold=threshold, activation=activation), y=[[raw]])
    assert (found.labels[0], found.values[0], found.margins[0]) == (
        row[0],
        pytest.approx(row[1], abs=1e-5),
        pytest.approx(row[2], abs=1e-5),
    )


def test_a_threshold_abstains_below_its_confidence() -> None:
    output = Threshold(tensor="y", labels=("no", "yes"), activation="none", abstain=Abstention(below=0.8, fallback="no"))
    found = ask(output, y=[[0.7], [0.9], [0.1]])
    assert (found.labels, found.abstained) == (["no", "yes", "no"], [True, False, False])


def test_regression_is_scaled_to_its_units() -> None:
    output = Regression(tensor="y", targets=["heat", "load"], scale=[10, 1], offset=[20, -1], units=["C", "1"])
    found = ask(output, y=[[0.5, 3], [1, 0]])
    assert (found.labels, found.values) == ([None, None], [25.0, 30.0])
    assert found.details == [Targets({"heat": 25.0, "load": 2.0}), Targets({"heat": 30.0, "load": -1.0})]
    assert features.output_names(output) == ("output.heat", "output.load")
    assert found.features.tolist() == [[25.0, 2.0], [30.0, -1.0]]


@pytest.mark.parametrize(
    ("given", "score", "x", "y", "row"),
    [
        pytest.param(VECTOR, "value", [[0, 0]], [[3.5]], ("anomaly", 3.5, 1.5), id="a score that the graph gives"),
        pytest.param(VECTOR, "value", [[0, 0]], [[2.0]], ("anomaly", 2.0, 0.0), id="on the threshold"),
        pytest.param(VECTOR, "reconstruction", [[1, 2]], [[2, 4]], ("anomaly", 2.5, 0.5), id="badly reconstructed"),
        pytest.param(VECTOR, "reconstruction", [[1, 2]], [[1, 3]], ("normal", 0.5, 1.5), id="well reconstructed"),
        pytest.param(
            IMAGE, "reconstruction", [[[[255] * 2] * 2]], [[[[2.5] * 2] * 2]], ("anomaly", 4.0, 2.0), id="what the graph saw of pixels"
        ),
    ],
)
def test_anomaly(given: InputSpec, score: str, x: object, y: object, row: tuple[str, float, float]) -> None:
    found = ask(Anomaly(tensor="y", threshold=2.0, score=score), given=given, x=x, y=y)
    assert (found.labels[0], found.values[0], found.margins[0]) == (row[0], pytest.approx(row[1]), pytest.approx(row[2]))
    assert found.features[0, 0] == pytest.approx(row[1])


def test_raw_outputs_are_told_by_their_mean() -> None:
    found = ask(Raw(tensors=[TensorSpec("y", "float32", [-1, 2, 2])]), y=[[[1, 2], [3, 4]]])
    assert (found.labels, found.values, found.details) == ([None], [2.5], [None])


def test_raw_text_is_not_followed() -> None:
    output = Raw(tensors=[TensorSpec("y", "string", [-1])])
    found = answers.answer(manifest_of(output), {}, {"y": np.array([b"a", b"b"], object)})
    assert (found.values, found.features.shape) == ([0.0, 0.0], (2, 0))


@pytest.mark.parametrize(
    ("output", "outputs"),
    [
        pytest.param(CLASSES, {"y": np.empty((0, 3))}, id="classification"),
        pytest.param(Threshold(tensor="y", labels=("no", "yes")), {"y": np.empty((0, 1))}, id="threshold"),
        pytest.param(Anomaly(tensor="y", threshold=1), {"y": np.empty((0, 1))}, id="anomaly"),
        pytest.param(FACES, {"boxes": np.empty((0, 5, 4)), "scores": np.empty((0, 5, 2))}, id="detection"),
        pytest.param(Raw(tensors=[TensorSpec("y", "float32", [-1, 2])]), {"y": np.empty((0, 2))}, id="raw"),
    ],
)
def test_no_rows_have_no_answers(output: OutputSpec, outputs: dict) -> None:
    assert ask(output, **outputs).rows == 0


class TestDetection:
    def test_the_better_of_two_boxes_of_one_face_remains(self) -> None:
        boxes = [[[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.6], [0.6, 0.6, 0.9, 0.9], [0, 0, 1, 1]]]
        scores = [[[0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.6, 0.4]]]
        found = ask(FACES, boxes=boxes, scores=scores)
        (detail,) = found.details
        assert isinstance(detail, Boxes) and detail.found == 2
        assert [(box.label, box.score) for box in detail.boxes] == [("face", pytest.approx(0.9)), ("face", pytest.approx(0.7))]
        assert (detail.boxes[0].x1, detail.boxes[0].y2) == (pytest.approx(0.1), pytest.approx(0.6))
        assert row_of(found) == ("face", pytest.approx(0.9), pytest.approx(0.4), False)
        assert found.features[0] == pytest.approx([0.9, 2, (0.4 * 0.5 + 0.3 * 0.3) / 2])

    def test_a_picture_without_a_thing(self) -> None:
        found = ask(FACES, boxes=[[[0, 0, 1, 1]]], scores=[[[0.7, 0.3]]])
        assert row_of(found) == (None, 0.0, pytest.approx(0.2), False)
        assert found.details == [Boxes(0, [])]
        assert found.features[0] == pytest.approx([0.3, 0, 0])

    def test_other_classes_may_overlap(self) -> None:
        output = Detection(boxes="boxes", scores="scores", classes=["cat", "dog"])
        found = ask(output, boxes=[[[0, 0, 1, 1], [0, 0, 1, 1]]], scores=[[[0.9, 0.1], [0.2, 0.8]]])
        assert [box.label for box in found.details[0].boxes] == ["cat", "dog"]

    def test_the_best_remain_where_there_are_too_many(self) -> None:
        output = msgspec.structs.replace(FACES, max_boxes=2)
        boxes = [[[0.1 * n, 0, 0.1 * n + 0.05, 1] for n in range(5)]]
        found = ask(output, boxes=boxes, scores=[[[0, 0.5 + 0.1 * n] for n in range(5)]])
        assert [box.score for box in found.details[0].boxes] == pytest.approx([0.9, 0.8])

    @pytest.mark.parametrize(
        ("changes", "raw", "prior", "corners"),
        [
            pytest.param({}, [0.1, 0.2, 0.3, 0.4], None, [0.1, 0.2, 0.3, 0.4], id="corners"),
            pytest.param({"form": "centers"}, [0.5, 0.5, 0.2, 0.4], None, [0.4, 0.3, 0.6, 0.7], id="centers"),
            pytest.param({"priors": "p"}, [0, 0, 0, 0], [0.5, 0.5, 0.2, 0.4], [0.4, 0.3, 0.6, 0.7], id="the prior itself"),
            pytest.param({"priors": "p"}, [1, -1, 0, 0], [0.5, 0.5, 0.2, 0.4], [0.42, 0.26, 0.62, 0.66], id="a prior that is moved"),
            pytest.param(
                {"priors": "p"},
                [0, 0, math.log(2) / 0.2, math.log(0.5) / 0.2],
                [0.5, 0.5, 0.2, 0.4],
                [0.3, 0.4, 0.7, 0.6],
                id="a prior that is stretched",
            ),
        ],
    )
    def test_forms_of_boxes(self, changes: dict, raw: list[float], prior: list[float] | None, corners: list[float]) -> None:
        output = msgspec.structs.replace(FACES, **changes)
        priors = None if prior is None else np.array([prior], np.float32)
        assert corners_of(output, np.array([raw], np.float32), priors)[0] == pytest.approx(corners, abs=1e-6)

    def test_an_infinite_box_is_none(self) -> None:
        output = msgspec.structs.replace(FACES, priors="p")
        raw, scores = [[[0, 0, 1e30, 0], [0, 0, 0, 0]]], [[[0, 1.0], [0, 0.9]]]
        found = ask(output, boxes=raw, scores=scores, priors=np.full((2, 4), 0.5, np.float32))
        assert [box.score for box in found.details[0].boxes] == pytest.approx([0.9])

    @pytest.mark.parametrize(
        ("scores", "priors"),
        [pytest.param(3, None, id="fewer scores"), pytest.param(4, 3, id="fewer priors"), pytest.param(4, 5, id="more priors")],
    )
    def test_shapes_that_disagree_are_an_error(self, scores: int, priors: int | None) -> None:
        with pytest.raises(BadBundle, match="4 boxes"):
            made = None if priors is None else np.zeros((priors, 4), np.float32)
            ask(FACES, boxes=np.zeros((1, 4, 4)), scores=np.zeros((1, scores, 2)), priors=made)

    def test_what_a_hostile_model_can_cost_is_bounded(self) -> None:
        count = limits.MAX_CANDIDATE_BOXES_COUNT + 10
        boxes = np.zeros((1, count, 4))
        assert ask(FACES, boxes=boxes, scores=np.ones((1, count, 2))).details[0].found == FACES.max_boxes


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def suppress_one_by_one(boxes: Sequence[Sequence[float]], kinds: Sequence[int], threshold: float, most: int) -> list[int]:
    """torchvision.ops.batched_nms by its definition: best first, each against every better one that remained."""
    kept: list[int] = []
    for at, box in enumerate(boxes):
        if len(kept) < most and all(kinds[k] != kinds[at] or iou(boxes[k], box) <= threshold for k in kept):
            kept.append(at)
    return kept


_EIGHTHS = st.integers(0, 8).map(lambda n: n / 8)
_BOXES = st.lists(st.tuples(_EIGHTHS, _EIGHTHS, _EIGHTHS, _EIGHTHS), max_size=30).map(
    lambda drawn: [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in drawn]
)


@given(boxes=_BOXES, data=st.data(), threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]), most=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_suppression_is_what_its_definition_says(boxes: list, data: st.DataObject, threshold: float, most: int) -> None:
    kinds = data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    found = suppress(np.array(boxes, np.float32).reshape(-1, 4), np.array(kinds, int), threshold, most)
    assert found == suppress_one_by_one(boxes, kinds, threshold, most)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None)
def test_activations_are_probabilities_whatever_the_logits(logits: list[float]) -> None:
    given_logits = np.array([logits], np.float32)
    for made in (softmax(given_logits), sigmoid(given_logits)):
        assert np.isfinite(made).all() and (made >= 0).all() and (made <= 1).all()
    assert softmax(given_logits).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("detail", [Ranking(["a"], [0.5]), Targets({"a": 1.0}), Boxes(0, [])], ids=lambda detail: type(detail).__name__)
def test_a_detail_reads_back(detail: Detail) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(detail), type=Detail) == detail


class TestPriors:
    def _bundle(self, data: bytes) -> Bundle:
        manifest = manifest_of(msgspec.structs.replace(FACES, priors="p"))
        known = msgspec.msgpack.encode(KnownAnswers(inputs={}, outputs={}))
        return Bundle(pack(manifest, {"m": b"m", "k": known, "r": b"r", "c": b"c", "p": data}))

    def test_they_are_floats_by_four(self) -> None:
        values = np.arange(8, dtype="<f4")
        assert answers.priors_of(self._bundle(values.tobytes())).tolist() == values.reshape(2, 4).tolist()

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="none"),
            pytest.param(bytes(15), id="a torn value"),
            pytest.param(bytes(20), id="five values"),
            pytest.param(np.full(4, np.nan, "<f4").tobytes(), id="not a number"),
        ],
    )
    def test_others_are_an_error(self, data: bytes) -> None:
        with pytest.raises(BadBundle, match="priors"):
            answers.priors_of(self._bundle(data))
