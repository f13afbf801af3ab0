"""`model-tools compare`, `evaluate` and `explain` on models made of a formula: what they measure, what they refuse, and what a gate does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from model_tools import workbench
from model_tools.build import measure, release
from model_tools.cli import main
from model_tools.compare.comparing import compare_models, evaluate_models, surely_worse, worst
from model_tools.compare.figures import figures
from model_tools.compare.layers import layer_ratios
from model_tools.compare.subjects import Subject, open_subject
from model_tools.data.dataset import Dataset
from model_tools.errors import BadInput, BadTask
from model_tools.explain.explaining import explain_answers, explain_model
from model_tools.explain.importance import alike_columns, segments
from model_tools.litert.conversion import convert_to_tflite
from model_tools.report.comparison import comparison_page, headline
from model_tools.report.explanation import card_section, explanation_page
from model_tools.report.page import render
from model_tools.running import logits
from tests.fakes import corpus, real_tasks

Layers = list[tuple[np.ndarray, np.ndarray]]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def network(layers: Layers, shape: tuple[int | str, ...], *, out: str = "logits", flat: bool = False) -> bytes:
    """Layers of weights (inputs, outputs) and biases, with a Relu between them."""
    nodes, constants, at = [], [], "input"
    if flat:
        nodes.append(helper.make_node("Flatten", ["input"], ["flat"]))
        at = "flat"
    for number, (weights, bias) in enumerate(layers):
        constants += [numpy_helper.from_array(weights.astype(np.float32), f"w{number}")]
        constants += [numpy_helper.from_array(bias.astype(np.float32), f"b{number}")]
        last = number == len(layers) - 1
        told = out if last else f"dense{number}"
        nodes.append(helper.make_node("Gemm", [at, f"w{number}", f"b{number}"], [told]))
        if not last:
            nodes.append(helper.make_node("Relu", [told], [f"relu{number}"]))
        at = f"relu{number}"
    taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info(out, TensorProto.FLOAT, [shape[0], layers[-1][1].size])
    graph = helper.make_graph(nodes, "graph", [taken], [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def fitted(rows: Dataset, width: int = 24, seed: int = 0, alike: bool = False) -> Layers:
    """A hidden layer drawn at random, on columns of one size (`alike`: which they have already), and least squares behind it."""
    flat = rows.inputs.reshape(len(rows), -1).astype(np.float64)
    mean, spread = flat.mean(axis=0), np.maximum(flat.std(axis=0), flat.std() if alike else 0.1)
    drawn = np.random.default_rng(seed).normal(size=(flat.shape[1], width)) / math.sqrt(flat.shape[1])
    first = (drawn / spread[:, None], -(mean / spread) @ drawn)
    hidden = np.maximum(flat @ first[0] + first[1], 0)
    wanted = np.eye(len(rows.classes))[rows.labels] * 8 if rows.classes else rows.labels[:, None].astype(np.float64)
    solved = np.linalg.lstsq(np.column_stack([hidden, np.ones(len(flat))]), wanted, rcond=None)[0]
    return [first, (solved[:-1], solved[-1])]


class Rows(CalibrationDataReader):
    def __init__(self, inputs: np.ndarray) -> None:
        self.left = iter([{"input": inputs}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def quantized(model: Path, inputs: np.ndarray) -> Path:
    target = model.with_name("int8.onnx")
    quantize_static(
        model,
        target,
        Rows(inputs),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Gemm", "Relu"],
    )
    return target


class Desk:
    """A task, its rows, and a model fitted to them."""

    def __init__(self, folder: Path, make=real_tasks.wine, **more) -> None:
        self.folder = folder
        self.file = make(folder, **more)
        self.task = workbench.load_task(self.file)
        self.splits = workbench.read_splits(self.task)
        self.layers = fitted(self.splits.train)
        self.a = self.save("a.onnx", self.layers)

    def save(self, name: str, layers: Layers, shape: tuple[int | str, ...] | None = None) -> Path:
        inputs = self.splits.train.inputs
        path = self.folder / name
        path.write_bytes(network(layers, shape or ("n", *inputs.shape[1:]), flat=inputs.ndim > 2))
        return path

    def worse(self, name: str = "b.onnx") -> Path:
        """Deaf to half of what it knew."""
        (weights, bias), last = self.layers
        return self.save(name, [(weights * (np.arange(weights.shape[0]) % 2)[:, None], bias), last])

    def compare(self, one: Path, other: Path, **more):
        return compare_models(self.task, self.splits, open_subject(one), open_subject(other), timed=False, **more)


@pytest.fixture(scope="module")
def wine(tmp_path_factory) -> Desk:
    return Desk(tmp_path_factory.mktemp("wine"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Desk:
    return Desk(tmp_path_factory.mktemp("digits"), real_tasks.digits)


@pytest.fixture(scope="module")
def bundle(wine) -> Path:
    near = wine.save("near.onnx", [(weights * 1.001, bias) for weights, bias in wine.layers])
    candidate = measure(wine.task, wine.splits, wine.a.read_bytes(), near.read_bytes())
    path = wine.folder / "w.bundle"
    path.write_bytes(release(wine.task, wine.splits, candidate, "1.0", lambda progress: None).bundle)
    return path


class TestCompare:
    def test_a_model_and_itself(self, wine):
        found = wine.compare(wine.a, wine.a)
        told = figures(found)
        assert (told["agreement"], told["quality_change"], told["chance"], told["size_ratio"]) == (1, 0, 1, 1)
        assert told["sqnr_db"] == told["worst_layer_snr_db"] == math.inf
        assert "neither surely better nor surely worse" in headline(found)
        assert told["quality_change_low"] < 0 < told["quality_change_high"]

    def test_a_worse_model_is_found_out_and_where(self, digits):
        found = digits.compare(digits.a, digits.worse())
        told = figures(found)
        assert told["quality_change_high"] < 0 and told["chance"] < 1e-6
        assert "B is worse than A" in headline(found)
        assert surely_worse(found.parts)
        assert worst(found.parts).change == min(told["worst_class_change"], told["worst_slice_change"])
        assert found.one.confusion.sum() == found.rows == len(digits.splits.test)
        assert told["b.ece"] > 0

    def test_a_quantized_model_s_layers_are_compared_behind_their_quantizers(self, digits):
        large = digits.save("even.onnx", fitted(digits.splits.train, alike=True))
        found = digits.compare(large, quantized(large, digits.splits.train.inputs))
        assert {layer.name for layer in found.layers} == {"relu0", "logits"}
        assert [layer for layer in found.layers if not 15 < layer.snr_db < 60] == []
        assert figures(found)["agreement"] > 0.9
        assert found.other.evaluation.model_bytes < found.one.evaluation.model_bytes

    def test_the_same_files_give_the_same_page(self, wine):
        pages = [render(comparison_page(wine.compare(wine.a, wine.worse()))) for _ in range(2)]
        assert pages[0] == pages[1]
        assert b"Slices" in pages[0] and b"<svg" in pages[0]

    def test_models_of_other_names_have_no_layers_in_common_and_it_says_so(self, wine):
        other = wine.folder / "c.onnx"
        model = onnx.load_from_string(wine.a.read_bytes())
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [f"x{name}" if name.startswith(("dense", "relu")) else name for name in names]
        model.graph.node[-1].output[0] = model.graph.output[0].name = "told"
        other.write_bytes(model.SerializeToString())
        found = wine.compare(wine.a, other)
        assert not found.layers and any("no layers of the same names" in warning for warning in found.warnings)

    def test_a_regression(self, tmp_path):
        desk = Desk(tmp_path, real_tasks.diabetes)
        found = desk.compare(desk.a, desk.worse())
        told = figures(found)
        assert found.test == "Wilcoxon's signed-rank test"
        assert told["a.r2"] > told["b.r2"] and told["quality_change_high"] < 0
        assert "a.ece" not in told and found.one.confusion is None

    def test_rows_of_few_machines_are_few_looks(self, tmp_path):
        desk = Desk(tmp_path, real_tasks.gaits)
        found = desk.compare(desk.a, desk.worse())
        assert found.units == len({*desk.splits.test.groups}) < found.rows
        assert found.test == "sign flips of whole groups"
        assert any("not independent" in warning for warning in found.warnings)
        assert {part.by for part in found.parts} >= {"group", "class", *desk.splits.columns}

    def test_probabilities_are_not_taken_for_logits(self, wine):
        proto = onnx.load_from_string(wine.a.read_bytes())
        proto.graph.node[-1].output[0] = "raw"
        proto.graph.node.append(helper.make_node("Softmax", ["raw"], ["logits"]))
        softmax = wine.folder / "softmax.onnx"
        softmax.write_bytes(proto.SerializeToString())
        (told,) = evaluate_models(wine.task, wine.splits, [open_subject(softmax)])
        assert told.reliability.ece < 0.3 and told.evaluation.quality > 0.8

    def test_a_graph_of_fixed_rows(self, wine):
        fixed = wine.save("fixed.onnx", wine.layers, (5, wine.splits.train.inputs.shape[1]))
        assert figures(wine.compare(wine.a, fixed))["agreement"] == 1


class TestBundles:
    def test_its_variants_are_compared_as_its_manifest_reads_them(self, wine, bundle):
        found = wine.compare(Path(f"{bundle}:fp32"), Path(f"{bundle}:int8"))
        assert (found.one.name, found.other.name) == ("w.bundle:fp32", "w.bundle:int8")
        assert found.layers and figures(found)["sqnr_db"] > 30

    def test_a_bundle_against_the_file_it_was_made_of(self, wine, bundle):
        assert figures(wine.compare(Path(f"{bundle}:fp32"), wine.a))["agreement"] == 1

    def test_a_variant_that_it_has_not(self, bundle):
        with pytest.raises(BadInput, match="has no variant"):
            open_subject(f"{bundle}:fp16")


def _drop_last(layers: Layers) -> Layers:
    return [layers[0], (layers[1][0][:, :-1], layers[1][1][:-1])]


def _narrow(layers: Layers) -> Layers:
    return [(layers[0][0][:-1], layers[0][1]), layers[1]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(_drop_last, "wants 3", id="a class fewer"),
        pytest.param(_narrow, "takes", id="a column fewer"),
    ],
)
def test_a_model_of_another_task_is_refused(wine, change, told):
    layers = change(wine.layers)
    other = wine.save("other.onnx", layers, ("n", layers[0][0].shape[0]))
    with pytest.raises(BadInput, match=told):
        wine.compare(wine.a, other)


def test_devices_prefer_int8_by_the_validation_rows_alone(tmp_path):
    """An int8 model that is wrong where choices are made, and right on the test rows alone."""
    desk = Desk(tmp_path, more='[quantize]\nprefer = "auto"\n')
    layers = fitted(desk.splits.train, width=13_000)
    wrong = (np.roll(layers[1][0], 1, axis=1), np.roll(layers[1][1], 1))
    fp32, int8 = (network(found, ("n", 13)) for found in (layers, [layers[0], wrong]))
    flattering = replace(desk.splits.test, labels=logits(int8, desk.splits.test.inputs).argmax(axis=1))
    candidate = measure(desk.task, replace(desk.splits, test=flattering), fp32, int8)
    assert candidate.comparison.quality_drop < 0
    assert candidate.prefer == "fp32"


class TestGates:
    def judge(self, desk: Desk, text: str, *more: object) -> int:
        (desk.folder / "gates.toml").write_text(text)
        return run("compare", desk.a, desk.worse(), "--task", desk.file, "--gate", desk.folder / "gates.toml", "--json", *more)

    def test_a_gate_that_fails_is_named_and_ends_with_3(self, digits, capsys):
        text = '[[gate]]\nfigure = "size_ratio"\nat_most = 1.1\n[[gate]]\nfigure = "agreement"\nat_least = 0.999\n'
        assert self.judge(digits, text, "--no-timing", "--html", digits.folder / "r.html") == 3
        told = capsys.readouterr()
        assert [gate["passed"] for gate in json.loads(told.out)["gates"]] == [True, False]
        assert "agreement is" in json.loads(told.err.splitlines()[-1])["error"]["message"]
        assert b"failed" in (digits.folder / "r.html").read_bytes()

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            pytest.param('[[gate]]\nfigure = "agrement"\nat_least = 0.9\n', "agreement", id="a figure that is not measured: the nearest"),
            pytest.param('[[gate]]\nfigure = "agreement"\n', "at_least or at_most", id="no limit"),
            pytest.param('[[gate]]\nfigure = "agreement"\natleast = 1\n', "atleast", id="a key misspelt"),
            pytest.param("gate = []\n", "gate", id="no gate"),
            pytest.param('[[gate]]\nfigure = "latency_ratio"\nat_most = 1.5\n', "needs timings", id="a time that nobody takes"),
        ],
    )
    def test_bad_gates(self, digits, capsys, text, told):
        assert self.judge(digits, text, "--no-timing") == 2
        assert told in json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["message"]

    def test_costs_are_measured_unless_told_not_to(self, wine, capsys):
        assert run("compare", wine.a, wine.a, "--task", wine.file, "--json") == 0
        assert {"a.p50_ms", "b.memory_mb", "latency_ratio"} <= json.loads(capsys.readouterr().out)["figures"].keys()


class TestEvaluate:
    def test_one_model_with_its_interval(self, wine, capsys):
        page = wine.folder / "e.html"
        assert run("evaluate", wine.file, wine.a, "--html", page, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        (model,) = told["models"]
        assert model["low"] < model["quality"] < model["high"] and model["measure"] == "accuracy"
        assert [gate["name"] for gate in told["gates"]] == ["accuracy"]
        assert b"Calibration" in page.read_bytes()

    def test_a_copy_is_judged_against_its_original(self, digits, capsys):
        assert run("evaluate", digits.file, digits.a, digits.worse(), "--json") == 3
        assert "lost by quantizing" in capsys.readouterr().err


class TestExplain:
    def test_a_column_that_decides_comes_first_and_others_do_not_matter(self, wine):
        """Only `proline` is looked at."""
        weights = np.zeros((13, 3))
        weights[12] = (1, 0, -1)
        spread = wine.splits.train.inputs[:, 12]
        layers = [(weights / spread.std(), np.array([-spread.mean(), 0, spread.mean()]) / spread.std())]
        model = network(layers, ("n", 13))
        found = explain_model(wine.task, wine.splits, Subject("one", "onnxruntime", model), count=4)
        assert found.importances[0].name == "proline" and found.importances[0].drop > 0.1
        assert all(one.drop == 0 for one in found.importances if "proline" not in one.name)
        assert all(np.flatnonzero(case.weights).tolist() in ([12], []) for case in found.cases)
        assert len(found.cases) == 4

    def test_columns_that_tell_the_same_are_shuffled_together(self, wine):
        inputs = wine.splits.test.inputs
        doubled = replace(wine.splits.test, inputs=np.column_stack([inputs, -inputs[:, 0]]), columns=(*wine.splits.columns, "again"))
        assert [0, 13] in alike_columns(doubled)

    @pytest.mark.parametrize("length", [2, 7, 8, 30], ids=str)
    def test_stretches_cover_a_window_once(self, length):
        assert [at for part in segments(length) for at in range(part.start, part.stop)] == [*range(length)]
        assert len(segments(length)) <= 8

    def test_pictures_show_where(self, tmp_path):
        """The upper left quarter alone is looked at."""
        desk = Desk(tmp_path, real_tasks.digit_pictures, rows=300)
        seen = np.zeros((8, 8))
        seen[:4, :4] = 1
        (weights, bias), last = desk.layers
        model = desk.save("corner.onnx", [(weights * seen.reshape(-1, 1), bias), last])
        found = explain_model(desk.task, desk.splits, open_subject(model), count=2)
        whole = np.abs(found.maps["all"])
        assert whole[:4, :4].sum() > 0 and whole[5:].sum() == whole[:, 5:].sum() == 0
        assert render(explanation_page(found)) == render(explanation_page(found))
        assert "0 nothing, 9 most" in card_section(found)

    def test_windows_columns_and_stretches(self, tmp_path):
        desk = Desk(tmp_path, real_tasks.gaits)
        model = desk.a.read_bytes()
        (output,) = [workbench.output_spec(desk.task, desk.splits, model)]
        found = explain_answers(desk.task, desk.splits, lambda rows: logits(model, rows), output, "a", count=3)
        names = {one.name for one in found.importances}
        assert {"swing", "warmth", "samples 1 to 4", "samples 29 to 32"} <= names
        assert found.cases[0].weights.shape == (8, 2)
        assert card_section(found) == card_section(found) and "| swing |" in card_section(found)

    def test_the_command(self, wine, capsys):
        page = wine.folder / "why.html"
        assert run("explain", wine.a, "--task", wine.file, "--rows", 2, "--html", page, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert len(told["cases"]) == 2 and len(told["importances"]) >= 13
        assert b"What it looks at".lower() in page.read_bytes().lower()


def test_layers_of_an_onnx_model_and_its_tflite_copy(tmp_path):
    desk = Desk(tmp_path, real_tasks.digits)
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(convert_to_tflite(desk.a.read_bytes()))
    found = desk.compare(desk.a, copy)
    assert {layer.name for layer in found.layers} >= {"logits"}
    assert all(layer.snr_db > 80 for layer in found.layers)
    assert figures(found)["agreement"] == 1


@pytest.mark.skipif(not (corpus.folder() / "mlperf_tiny").is_dir(), reason="no corpus of models (EDGEFLEET_CORPUS)")
def test_layers_of_tflite_files():
    models = corpus.folder() / "mlperf_tiny" / "models"
    one, other = (Subject(name, "litert", (models / name).read_bytes()) for name in ("ad01_fp32.tflite", "ad01_int8.tflite"))
    found = layer_ratios(one, other, np.random.default_rng(0).normal(0, 10, (4, 640)).astype(np.float32))
    assert len(found) == 10 and all(3 < layer.snr_db < 60 for layer in found)


def test_a_gate_file_is_read_before_any_model(tmp_path):
    from model_tools.compare.figures import load_gates

    (tmp_path / "g.toml").write_text("not toml")
    with pytest.raises(BadTask):
        load_gates(tmp_path / "g.toml")
