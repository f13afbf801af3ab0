"""From models and data to the bundle: known answers, tolerances, the reference, and what a retrained bundle inherits."""

import dataclasses
import hashlib

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fleet_contract import bundle, features, limits, sketch
from fleet_contract.answers import Answers, answer
from fleet_contract.errors import BadBundle, BadModel
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.manifest import Limits, Lineage, Policy
from fleet_contract.outputs import Classification, Regression
from fleet_contract.tensors import Tensor
from model_tools.errors import BadData, BadInput, GateFailed
from model_tools.pack import answers, bom, reference
from model_tools.pack.archive import Contents, Evidence, Model, make_bundle
from model_tools.running import logits

COLUMNS = ["a", "b", "c"]
SPEC = VectorInput(tensor="input", columns=COLUMNS, low=[-50.0] * 3, high=[50.0] * 3)
IMAGE = ImageInput(tensor="input", height=8, width=8, channels=1)


def linear(weights: np.ndarray) -> bytes:
    """An ONNX model: input @ weights."""
    made = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def elsewhere() -> bytes:
    """The same with its weights in another file."""
    model = onnx.load_from_string(linear(WEIGHTS))
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model.SerializeToString()


def rows(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, 3)) + shift).astype(np.float32)


WEIGHTS = np.random.default_rng(7).normal(size=(3, 3)) * 4
COARSE = np.round(WEIGHTS * 16) / 16
HELD_OUT = rows(2, 300)
EVIDENCE = Evidence(known={"input": rows(1, 900)}, held_out={"input": HELD_OUT})
OUTPUT = Classification(tensor="logits", classes=["x", "y", "z"])
CONTENTS = Contents(
    task="sensors",
    version="1.0",
    description="Wear of a bearing.",
    input=SPEC,
    output=OUTPUT,
    models=[Model("int8", linear(COARSE)), Model("fp32", linear(WEIGHTS))],
    profiles=["any"],
    limits=Limits(),
    policy=Policy(),
    lineage=Lineage(task_sha256="1" * 64, data_sha256="2" * 64, seed=3, code="test", metrics={"accuracy": 0.9}),
)


def opened(data: bytes) -> tuple[bundle.Bundle, sketch.Reference]:
    made = bundle.Bundle(data)
    return made, sketch.decode_reference(made.read(made.manifest.reference))


def counts(condition: sketch.Condition, grid: sketch.Grid) -> np.ndarray:
    return sketch.counts_of(condition.sketch, grid)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.cumsum(one / one.sum()) - np.cumsum(other / other.sum())).max())


def array(tensor: Tensor) -> np.ndarray:
    return np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)


SURE = np.tile(np.float32([0.9, 0.1]), (20, 1))
"""Output features: confidence and entropy."""


def answered(logits: np.ndarray) -> Answers:
    output = Classification(tensor="logits", classes=[f"c{n}" for n in range(logits.shape[1])])
    draft = msgspec.structs.replace(bundle.Bundle(make_bundle(CONTENTS, EVIDENCE)).manifest, output=output)
    return answer(draft, {}, {"logits": logits})


def estimated(values: np.ndarray) -> Answers:
    output = Regression(tensor="logits", targets=["y"], scale=[1.0], offset=[0.0], units=[""])
    draft = msgspec.structs.replace(bundle.Bundle(make_bundle(CONTENTS, EVIDENCE)).manifest, output=output)
    return answer(draft, {}, {"logits": values})


class TestTheBundle:
    def test_same_contents_same_bytes(self):
        assert make_bundle(CONTENTS, EVIDENCE) == make_bundle(CONTENTS, EVIDENCE)

    def test_holds_the_models_as_they_were_preferred_first(self):
        made, _ = opened(make_bundle(CONTENTS, EVIDENCE))
        assert [(v.precision, made.read(v.entry)) for v in made.manifest.variants] == [("int8", linear(COARSE)), ("fp32", linear(WEIGHTS))]
        assert made.manifest.lineage == CONTENTS.lineage

    def test_a_flipped_byte_anywhere_is_found(self):
        data = make_bundle(CONTENTS, EVIDENCE)
        for at in range(0, len(data), 997):
            broken = bytearray(data)
            broken[at] ^= 0x10
            with pytest.raises(BadBundle):
                bundle.Bundle(bytes(broken))

    def test_the_card_says_what_a_person_asks(self):
        made, _ = opened(make_bundle(CONTENTS, EVIDENCE))
        card = made.read(made.manifest.card).decode()
        for words in (
            "# sensors 1.0",
            "Wear of a bearing.",
            "x, y, z",
            "| int8 |",
            "| accuracy | 0.9 |",
            "| training | 900 | 5 |",
            "2" * 64,
        ):
            assert words in card

    def test_the_card_takes_no_markup_of_its_data(self):
        words = "<script>1</script> | x |\n# Approved"
        spec, output = (
            msgspec.structs.replace(SPEC, columns=[words, "b", "c"]),
            msgspec.structs.replace(OUTPUT, classes=[words, "y", "z"]),
        )
        made, _ = opened(make_bundle(dataclasses.replace(CONTENTS, input=spec, output=output, description=words), EVIDENCE))
        card = made.read(made.manifest.card).decode()
        assert card.replace("\\<", "").count("<") == 0
        assert [line for line in card.splitlines() if line.startswith("# ")] == ["# sensors 1.0"]
        assert card.count("\\# Approved") == 3

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            pytest.param({"models": []}, "models", id="no model"),
            pytest.param({"models": [Model("fp32", b"no model")]}, "model", id="not a model"),
            pytest.param({"models": [Model("fp32", elsewhere())]}, "data_location", id="a model with its weights in another file"),
            pytest.param({"models": [Model("fp32", linear(WEIGHTS * np.nan))]}, "fp32", id="a model that answers NaN"),
        ],
    )
    def test_what_cannot_be_packed_is_named(self, change, field):
        with pytest.raises((BadInput, BadModel)) as refused:
            make_bundle(dataclasses.replace(CONTENTS, **change), EVIDENCE)
        assert refused.value.field == field

    def test_needs_held_out_rows(self):
        with pytest.raises(BadInput) as refused:
            make_bundle(CONTENTS, Evidence(EVIDENCE.known, {"input": HELD_OUT[:0]}))
        assert refused.value.field == "held_out"


class TestTheBillOfMaterials:
    def bom(self, contents: Contents = CONTENTS) -> dict:
        made, _ = opened(make_bundle(contents, EVIDENCE))
        return msgspec.json.decode(made.read(bom.ENTRY))

    def test_is_valid_cyclonedx(self):
        pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is not installed")
        for contents in (CONTENTS, dataclasses.replace(CONTENTS, lineage=msgspec.structs.replace(CONTENTS.lineage, parent="3" * 64))):
            assert bom.problem_of(msgspec.json.encode(self.bom(contents))) is None

    def test_names_every_file_by_its_digest(self):
        made, _ = opened(make_bundle(CONTENTS, EVIDENCE))
        listed = {part["name"]: part["hashes"][0]["content"] for part in self.bom()["components"] if part["type"] == "file"}
        assert listed == {name: entry.sha256 for name, entry in made.manifest.entries.items() if name != bom.ENTRY}

    def test_says_what_the_model_is_and_how_good(self):
        model = self.bom()["metadata"]["component"]
        assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "sensors", "1.0")
        assert model["modelCard"]["modelParameters"]["task"] == "classification"
        assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "accuracy", "value": "0.9"}]

    def test_has_a_serial_number_of_its_content_and_no_time(self):
        other = dataclasses.replace(CONTENTS, description="Another.")
        assert self.bom()["serialNumber"] == self.bom()["serialNumber"] != self.bom(other)["serialNumber"]
        assert "timestamp" not in self.bom()["metadata"]


class TestKnownAnswers:
    def test_every_variant_gives_its_own_answers(self):
        made, _ = opened(make_bundle(CONTENTS, EVIDENCE))
        known = made.known_answers()
        for variant in made.manifest.variants:
            off = np.abs(
                logits(made.read(variant.entry), array(known.inputs["input"])) - array(known.outputs[variant.name]["logits"])
            ).max()
            assert off <= variant.tolerance / 10

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param(linear(WEIGHTS * 1.2), id="other scale"),
            pytest.param(linear(WEIGHTS[:, [1, 0, 2]]), id="two classes swapped"),
            pytest.param(linear(WEIGHTS * 0), id="always the same"),
        ],
    )
    def test_a_wrong_model_is_outside_every_tolerance(self, wrong):
        made, _ = opened(make_bundle(CONTENTS, EVIDENCE))
        known = made.known_answers()
        for variant in made.manifest.variants:
            assert (
                np.abs(logits(wrong, array(known.inputs["input"])) - array(known.outputs[variant.name]["logits"])).max() > variant.tolerance
            )

    def test_int8_may_stray_by_its_own_rounding_and_fp32_hardly(self):
        made, _ = opened(make_bundle(CONTENTS, EVIDENCE))
        int8, fp32 = made.manifest.variants
        known = made.known_answers()
        assert int8.tolerance >= 2 * np.abs(array(known.outputs["int8"]["logits"]) - array(known.outputs["fp32"]["logits"])).max()
        assert fp32.tolerance < 1e-2 < int8.tolerance

    def test_rounding_as_large_as_the_answers_is_refused(self):
        coarse = dataclasses.replace(CONTENTS, models=[Model("int8", linear(-WEIGHTS)), Model("fp32", linear(WEIGHTS))])
        with pytest.raises(GateFailed) as refused:
            make_bundle(coarse, EVIDENCE)
        assert refused.value.code == "indistinct-answers"

    def test_cover_every_predicted_class_and_the_smallest_margin(self):
        said = logits(linear(WEIGHTS), HELD_OUT)
        chosen = answers.choose({"input": HELD_OUT}, [answered(said)])
        ordered = np.sort(said, axis=1)
        assert {*said[chosen].argmax(axis=1)} == {*said.argmax(axis=1)}
        assert (ordered[:, -1] - ordered[:, -2]).argmin() in chosen
        assert len(chosen) == 32

    def test_hold_the_rows_where_quantization_flips_the_answer(self):
        said = logits(linear(WEIGHTS), HELD_OUT)
        other = said.copy()
        flipped = np.argsort(said.max(axis=1))[-3:]
        other[flipped] = other[flipped][:, [1, 2, 0]]
        chosen = answers.choose({"input": HELD_OUT}, [answered(said), answered(other)])
        assert {*flipped.tolist()} <= {*chosen.tolist()}
        assert len(chosen) == 32

    def test_of_figures_span_their_values_and_hold_where_variants_differ(self):
        values = np.random.default_rng(3).permutation(300).astype(np.float32)[:, None]
        other = values + np.float32([[5.0] if at == 17 else [0.1] for at in range(300)])
        chosen = answers.choose({"input": HELD_OUT}, [estimated(values), estimated(other)])
        assert 17 in chosen
        assert {0.0, 299.0} <= {*values[chosen, 0].tolist()}
        assert np.diff(np.sort(values[chosen, 0])).max() < 20

    def test_many_classes_and_large_inputs_stay_within_the_budget(self):
        inputs = np.full((100, 1, 128, 256), 0.5, np.float32)
        assert len(answers.choose({"input": inputs}, [answered(np.eye(100, dtype=np.float32))])) == 4

    @pytest.mark.parametrize(("pixel", "dtype"), [pytest.param(200.0, "uint8", id="whole"), pytest.param(0.5, "float32", id="fractional")])
    def test_whole_pixels_travel_as_bytes(self, pixel, dtype):
        inputs = np.full((2, 1, 8, 8), pixel, np.float32)
        said = {"logits": np.eye(2, dtype=np.float32)}
        made = answers.as_answers({"input": inputs}, [answers.Answered("fp32", "fp32", said, said)])
        assert made.inputs["input"].dtype == dtype
        assert (array(made.inputs["input"]) == inputs).all()


def test_no_rows_no_answers():
    assert logits(linear(WEIGHTS), rows(0, 0)).shape == (0, 3)


class TestTheReference:
    def test_knows_the_training_data_by_inputs_and_held_out_outputs(self):
        _, made = opened(make_bundle(CONTENTS, EVIDENCE))
        (training,) = made.conditions
        assert training.features == [*COLUMNS, *features.output_names(OUTPUT)]
        assert counts(training, made.grid).sum(axis=1).tolist() == [900] * 3 + [300] * 2

    def test_healthy_rows_fit_and_shifted_rows_do_not(self):
        _, made = opened(make_bundle(CONTENTS, EVIDENCE))
        known = counts(made.conditions[0], made.grid)[:3]
        healthy = counts(reference.describe("h", made.grid, rows(5, 400), None), made.grid)[:3]
        shifted = counts(reference.describe("s", made.grid, rows(5, 400, 2.0), None), made.grid)[:3]
        assert max(map(distance, healthy, known)) < 0.15
        assert min(map(distance, shifted, known)) > 0.5

    def test_an_outlier_does_not_stretch_the_grid(self):
        values = rows(1, 1000)
        values[0] = 1e9
        assert all(f.high < 10 for f in reference.fit_grid(SPEC, OUTPUT, values, SURE).features)

    def test_a_constant_column_gets_edges_on_both_sides(self):
        values = np.stack([np.full(50, v, np.float32) for v in (0.0, 7.0, -1e9)], axis=1)
        for feature, value in zip(reference.fit_grid(SPEC, OUTPUT, values, SURE).features, (0.0, 7.0, -1e9), strict=False):
            assert np.float32(feature.low) < np.float32(value) < np.float32(feature.high)

    @pytest.mark.parametrize("columns", [pytest.param(3, id="few"), pytest.param(200, id="many"), pytest.param(1022, id="the most")])
    def test_a_window_fits_into_one_record(self, columns):
        spec = VectorInput("input", [f"c{n}" for n in range(columns)], [0.0] * columns, [1.0] * columns)
        grid = reference.fit_grid(spec, OUTPUT, np.random.default_rng(0).random((50, columns), np.float32), SURE)
        size = len(msgspec.msgpack.encode(sketch.Sketcher(grid).sketch()))
        assert size <= limits.MAX_RECORD_BYTES - 256
        assert grid.bins >= 4

    @pytest.mark.parametrize(
        "columns",
        [
            pytest.param([f"c{n}" for n in range(1023)], id="too many columns"),
            pytest.param(["a", "output.confidence"], id="the name of an output feature"),
        ],
    )
    def test_columns_that_cannot_be_followed_are_refused(self, columns):
        spec = VectorInput("input", columns, [0.0] * len(columns), [1.0] * len(columns))
        with pytest.raises(BadData):
            reference.fit_grid(spec, OUTPUT, np.zeros((9, len(columns)), np.float32), SURE)

    def test_images_are_followed_by_what_light_and_lens_change(self):
        images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)).astype(np.float32)
        weights = np.random.default_rng(1).normal(size=(64, 2)) / 100
        model = onnx.load_from_string(linear(weights))
        flat = helper.make_node("Flatten", ["input"], ["flat"])
        model.graph.node[0].input[0] = "flat"
        model.graph.node.insert(0, flat)
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8]))
        contents = dataclasses.replace(
            CONTENTS,
            input=IMAGE,
            output=Classification(tensor="logits", classes=["x", "y"]),
            models=[Model("fp32", model.SerializeToString())],
        )
        made, known = opened(make_bundle(contents, Evidence({"input": images}, {"input": images[:20]})))
        assert known.conditions[0].features == [*features.IMAGE, *features.output_names(OUTPUT)]
        assert made.known_answers().inputs["input"].dtype == "uint8"


class TestARetrainedBundle:
    @pytest.fixture
    def champion(self) -> bundle.Bundle:
        return bundle.Bundle(make_bundle(CONTENTS, EVIDENCE))

    @pytest.fixture
    def fouled(self, champion) -> sketch.Condition:
        grid = opened(make_bundle(CONTENTS, EVIDENCE))[1].grid
        return reference.describe("drift-7", grid, rows(9, 120, 2.0), np.tile(np.float32([1 / 3, 1.0]), (120, 1)))

    def challenger(self, champion, condition) -> tuple[bundle.Bundle, sketch.Reference]:
        line = msgspec.structs.replace(CONTENTS.lineage, parent=champion.sha256, job="7")
        contents = dataclasses.replace(CONTENTS, version="2.0", models=[Model("fp32", linear(WEIGHTS / 8))], lineage=line)
        return opened(make_bundle(contents, EVIDENCE, champion, condition))

    def test_keeps_the_grid_and_adds_the_new_condition_by_its_inputs(self, champion, fouled):
        made, known = self.challenger(champion, fouled)
        assert known.grid == sketch.decode_reference(champion.read(champion.manifest.reference)).grid
        assert [c.name for c in known.conditions] == ["training", "drift-7"]
        assert known.conditions[1].features == COLUMNS
        assert (counts(known.conditions[1], known.grid)[:3] == counts(fouled, known.grid)[:3]).all()
        assert counts(known.conditions[1], known.grid)[3:].sum() == 0
        assert made.manifest.lineage.parent == champion.sha256

    def test_speaks_for_its_own_outputs_not_the_champions(self, champion, fouled):
        _, known = self.challenger(champion, fouled)
        before = sketch.decode_reference(champion.read(champion.manifest.reference)).conditions[0]
        confidence = 3
        assert distance(counts(known.conditions[0], known.grid)[confidence], counts(before, known.grid)[confidence]) > 0.3
        assert (counts(known.conditions[0], known.grid)[:3] == counts(before, known.grid)[:3]).all()

    def test_grandchildren_remember_every_condition(self, champion, fouled):
        child, known = self.challenger(champion, fouled)
        later = reference.describe("drift-8", known.grid, rows(3, 80, -2.0), None)
        _, grandchild = self.challenger(child, later)
        assert [c.name for c in grandchild.conditions] == ["training", "drift-7", "drift-8"]

    def test_the_same_drift_again_replaces_its_condition(self, champion, fouled):
        child, known = self.challenger(champion, fouled)
        again = reference.describe("drift-7", known.grid, rows(3, 80, -2.0), None)
        _, grandchild = self.challenger(child, again)
        assert [(c.name, c.sketch.rows) for c in grandchild.conditions] == [("training", 900), ("drift-7", 80)]

    def test_the_oldest_condition_gives_way_at_the_limit(self, champion, fouled):
        grid = sketch.decode_reference(champion.read(champion.manifest.reference)).grid
        many = [named(fouled, f"drift-{n}") for n in range(limits.MAX_CONDITIONS)]
        made = reference.join(grid, named(fouled, "training"), many, None)
        assert len(made.conditions) == limits.MAX_CONDITIONS
        assert (made.conditions[0].name, made.conditions[1].name, made.conditions[-1].name) == ("training", "drift-1", "drift-31")

    @pytest.mark.parametrize("name", [pytest.param("training", id="the name of the first condition")])
    def test_a_condition_that_would_hide_another_is_refused(self, name, champion, fouled):
        with pytest.raises(BadInput):
            self.challenger(champion, named(fouled, name))

    def test_a_parent_with_other_inputs_is_refused(self, champion):
        other = dataclasses.replace(CONTENTS, input=msgspec.structs.replace(SPEC, columns=["a", "b", "other"]))
        with pytest.raises(BadInput) as refused:
            make_bundle(other, EVIDENCE, champion)
        assert refused.value.field == "parent"


def named(condition: sketch.Condition, name: str) -> sketch.Condition:
    return msgspec.structs.replace(condition, name=name)


def test_the_digest_in_a_bundle_is_of_the_whole_archive():
    data = make_bundle(CONTENTS, EVIDENCE)
    assert bundle.Bundle(data).sha256 == hashlib.sha256(data).hexdigest()
