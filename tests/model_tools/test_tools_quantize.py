"""From a float model to smaller ones: what keeps the answers, what is said of the rows, and that the same rows give the same bytes."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_tools.cli import main
from model_tools.errors import BadData, BadInput, Failed
from model_tools.quantize.calibration import calibrate
from model_tools.quantize.float_graph import open_float
from model_tools.quantize.int8 import best_int8, quantize_int8, sensitivities
from model_tools.quantize.judging import Judged
from model_tools.quantize.noise import signal_to_noise
from model_tools.quantize.outliers import find_outliers
from model_tools.quantize.preference import prefers_int8, products
from model_tools.quantize.ranges import Histogram, choose_range
from model_tools.quantize.recipe import Quantized, Recipe
from model_tools.quantize.search import Measured, choose, pareto
from model_tools.quantize.weights import write_dynamic, write_half, write_weight_only
from model_tools.running import logits

RNG_SEED = 4
COLUMNS = 12


def mlp(widths: Sequence[int] = (COLUMNS, 48, 48, 3), spread: float = 1.0) -> bytes:
    """Raw units are centred and scaled in front; from one layer to the next, channels may differ `spread` times in range."""
    rng = np.random.default_rng(RNG_SEED)
    arrays = {"mean": np.full(widths[0], 5, np.float32), "scale": np.full(widths[0], 0.1, np.float32)}
    nodes = [helper.make_node("Sub", ["input", "mean"], ["centred"]), helper.make_node("Mul", ["centred", "scale"], ["a0"])]
    for at, (before, after) in enumerate(pairwise(widths)):
        arrays[f"w{at}"] = (rng.normal(size=(after, before)) * (2 / before) ** 0.5).astype(np.float32)
        arrays[f"b{at}"] = rng.normal(0, 0.1, after).astype(np.float32)
        last = at == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [f"a{at}", f"w{at}", f"b{at}"], ["logits" if last else f"s{at}"], transB=1))
        nodes += [] if last else [helper.make_node("Relu", [f"s{at}"], [f"a{at + 1}"])]
    factors = np.geomspace(1 / spread, 1, widths[1]).astype(np.float32)
    arrays["w0"] *= factors[:, None]
    arrays["b0"] *= factors
    arrays["w1"] /= factors[None]
    return model(nodes, arrays, ["n", widths[0]], ["n", widths[-1]])


def cnn(rows: int | str = "n") -> bytes:
    """With a batch norm, a residual sum and a grouped convolution."""
    rng = np.random.default_rng(RNG_SEED)
    kernels = {"first": (8, 1, 3, 3), "depth": (8, 1, 3, 3), "point": (8, 8, 1, 1)}
    arrays = {name: (rng.normal(size=shape) / 3).astype(np.float32) for name, shape in kernels.items()}
    arrays |= {"head": (rng.normal(size=(128, 4)) / 10).astype(np.float32)}
    arrays |= {name: rng.uniform(0.5, 2, 8).astype(np.float32) for name in ("gamma", "beta", "mu", "var")}
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mu", "var"], ["normed"]),
        helper.make_node("Relu", ["normed"], ["r"]),
        helper.make_node("Conv", ["r", "depth"], ["d"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Conv", ["d", "point"], ["p"]),
        helper.make_node("Add", ["p", "r"], ["sum"]),
        helper.make_node("MaxPool", ["sum"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["product"]),
        helper.make_node("Softmax", ["product"], ["logits"]),
    ]
    return model(nodes, arrays, [rows, 1, 8, 8], [rows, 4])


def model(nodes: list, arrays: dict[str, np.ndarray], taken: list, given: list) -> bytes:
    tensors = [numpy_helper.from_array(values, name) for name, values in arrays.items()]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, taken)]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, given)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def vectors(rows: int = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 10, (rows, COLUMNS)).astype(np.float32)


def pictures(rows: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 1, 8, 8)).astype(np.float32)


def sqnr_db(one: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(np.square(one).mean() / np.square(one - other).mean())


CASES = [pytest.param(mlp(), vectors(), id="vectors"), pytest.param(cnn(), pictures(), id="pictures")]


class TestInt8:
    @pytest.mark.parametrize(("fp32", "rows"), CASES)
    def test_answers_stay(self, fp32: bytes, rows: np.ndarray) -> None:
        int8 = quantize_int8(fp32, rows)
        assert sqnr_db(logits(fp32, rows), logits(int8, rows)) > 25
        assert quantize_int8(fp32, rows) == int8

    def test_weights_are_bytes(self) -> None:
        wide = mlp((COLUMNS, 512, 512, 3))
        assert len(wide) > 3.5 * len(quantize_int8(wide, vectors()))

    @pytest.mark.parametrize("rule", ["minmax", "percentile", "entropy", "mse"])
    def test_every_rule_for_ranges_is_good_where_nothing_is_odd(self, rule: str) -> None:
        fp32, rows = mlp(), vectors()
        assert sqnr_db(logits(fp32, rows), logits(quantize_int8(fp32, rows, ranges=rule), rows)) > 25

    def test_raw_units_and_answers_stay_float(self) -> None:
        made = onnx.load_from_string(quantize_int8(mlp(), vectors()))
        flowing = [node.op_type for node in made.graph.node if node.op_type != "DequantizeLinear"]
        assert flowing == ["Sub", "Mul", "QuantizeLinear", "Gemm", "QuantizeLinear", "Gemm", "QuantizeLinear", "Gemm"]
        (last,) = [node for node in made.graph.node if node.output[0] == "logits"]
        assert last.op_type == "Gemm"

    def test_one_outlier_does_not_fix_every_scale(self) -> None:
        fp32, rows = mlp(), vectors()
        odd = rows.copy()
        odd[3, 2] = 1e5
        made = best_int8(calibrate(fp32, odd), None, 0.005, None)
        assert sqnr_db(logits(fp32, rows), logits(made.model, rows)) > 25
        assert made.warnings[0].startswith("calibration-outliers: 1 of 128")
        assert "positions 3" in made.warnings[0]

    def test_channels_of_very_different_range_are_equalized(self) -> None:
        fp32, rows = mlp(spread=300), vectors()
        calibration = calibrate(fp32, rows)
        plain, equal = (signal_to_noise(calibration, calibration.write(Recipe("int8", equalized=on))) for on in (False, True))
        assert equal > plain + 10
        evened = calibration.equalized.graph.model.SerializeToString()
        assert np.allclose(logits(fp32, rows), logits(evened, rows), atol=1e-3)

    def test_a_fixed_number_of_rows_is_kept(self) -> None:
        made = onnx.load_from_string(quantize_int8(cnn(rows=1), pictures()))
        assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


class TestMixedPrecision:
    """Quality falls with a layer that must not be int8; the others may be."""

    def make(self, spoilt: set[str], budget: float = 0.01) -> tuple[str, ...]:
        fp32, rows = mlp((COLUMNS, 32, 32, 32, 3)), vectors(64)

        def quality(data: bytes) -> float:
            read = {name for node in onnx.load_from_string(data).graph.node if node.op_type == "Gemm" for name in node.input[1:2]}
            return 1.0 - 0.5 * bool({f"{name}_DequantizeLinear_Output" for name in spoilt} & read)

        made = best_int8(calibrate(fp32, rows), "minmax", budget, quality)
        assert quality(made.model) == 1
        assert any(word.startswith("mixed-precision") for word in made.warnings) == bool(made.recipe.excluded)
        return made.recipe.excluded

    def test_all_layers_are_int8_where_quality_holds(self) -> None:
        assert self.make(set()) == ()

    def test_as_few_layers_stay_float_as_will_do(self) -> None:
        fp32, rows = mlp((COLUMNS, 32, 32, 32, 3)), vectors(64)
        order = list(sensitivities(calibrate(fp32, rows), Recipe("int8")))
        layers = {node.name: node.input[1] for node in open_float(fp32).layers}
        assert self.make({layers[order[0]]}) == (order[0],)
        assert self.make({layers[order[1]]}) == tuple(order[:2])

    def test_no_layer_within_the_budget(self) -> None:
        with pytest.raises(Failed) as caught:
            best_int8(calibrate(mlp(), vectors()), None, 0.0, lambda data: float(b"QuantizeLinear" not in data))
        assert (caught.value.code, caught.value.field) == ("int8-too-costly", "quantize.budget")


class TestOthers:
    @pytest.mark.parametrize(
        ("write", "least_db", "times"),
        [
            pytest.param(write_weight_only, 30, 2.5, id="weights"),
            pytest.param(write_dynamic, 25, 2.5, id="dynamic"),
            pytest.param(write_half, 55, 1.7, id="fp16"),
        ],
    )
    def test_smaller_and_alike(self, write, least_db: float, times: float) -> None:
        fp32, rows = mlp((COLUMNS, 128, 128, 3)), vectors()
        made = write(open_float(fp32))
        assert len(fp32) > times * len(made)
        assert sqnr_db(logits(fp32, rows), logits(made, rows)) > least_db
        assert write(open_float(fp32)) == made

    def test_half_precision_begins_behind_raw_units(self) -> None:
        rows = vectors() * np.float32(1e6)
        assert np.isfinite(logits(write_half(open_float(mlp())), vectors(4))).all()
        arrays = {"w": np.full((COLUMNS, 2), 1e-9, np.float32), "scale": np.float32(1e-6)}
        nodes = [helper.make_node("Mul", ["input", "scale"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["logits"])]
        fp32 = model(nodes, arrays, ["n", COLUMNS], ["n", 2])
        assert np.isfinite(logits(write_half(open_float(fp32)), rows)).all()

    def test_weights_beyond_half_precision_are_refused(self) -> None:
        nodes = [helper.make_node("MatMul", ["input", "w"], ["logits"])]
        fp32 = model(nodes, {"w": np.full((COLUMNS, 2), 1e5, np.float32)}, ["n", COLUMNS], ["n", 2])
        with pytest.raises(Failed, match="beyond float16"):
            write_half(open_float(fp32))


class TestRows:
    @pytest.mark.parametrize(
        ("rows", "error"),
        [
            pytest.param(np.empty((0, COLUMNS), np.float32), BadData, id="none"),
            pytest.param(np.full((4, COLUMNS), np.nan, np.float32), BadData, id="nan"),
            pytest.param(np.zeros((4, COLUMNS + 1), np.float32), BadInput, id="other-width"),
            pytest.param(np.full((4, COLUMNS), 3e38, np.float32) * [[1], [-1], [1], [-1]], BadInput, id="beyond-float"),
        ],
    )
    def test_what_cannot_calibrate(self, rows: np.ndarray, error: type[Exception]) -> None:
        with pytest.raises(error):
            quantize_int8(mlp(), rows.astype(np.float32))

    def test_one_row_is_said(self) -> None:
        assert calibrate(mlp(), vectors(1)).warnings[0].startswith("calibration-rows: 1 ")

    @pytest.mark.parametrize(
        ("largest", "found"),
        [
            pytest.param([1.0] * 7 + [99.0], [7], id="one"),
            pytest.param([1.0] * 6 + [99.0], [], id="too-few-rows-to-tell"),
            pytest.param([1.0, 2.0, 3.0, 3.9] * 25, [], id="spread"),
            pytest.param([1.0] * 95 + [99.0] * 5, [], id="a-part-of-the-data"),
            pytest.param([1.0] * 197 + [50.0, 99.0, 70.0], [197, 198, 199], id="several"),
            pytest.param([0.0] * 20, [], id="silence"),
        ],
    )
    def test_outliers(self, largest: list[float], found: list[int]) -> None:
        highs = np.array(largest, np.float32)
        assert find_outliers({"t": (-highs, highs), "even": (np.zeros_like(highs), np.ones_like(highs))}).tolist() == found


class TestRanges:
    TAILS = np.histogram([-40, 40, *np.random.default_rng(0).normal(size=200_000)], 2_048)[0]
    """Two values forty standard deviations away."""

    @pytest.mark.parametrize("rule", ["minmax", "percentile", "entropy", "mse"])
    @pytest.mark.parametrize(
        ("low", "high"), [(-1.0, 1.0), (0.0, 5.0), (2.0, 3.0), (-3.0, -2.0), (0.0, 0.0)], ids=["both", "relu", "above", "below", "constant"]
    )
    def test_zero_is_within_and_nothing_beyond_what_was_seen(self, rule: str, low: float, high: float) -> None:
        found = choose_range(rule, Histogram(np.ones(64, np.int64), low, high))
        assert min(low, 0) <= found[0] <= 0 <= found[1] <= max(high, 0)

    @pytest.mark.parametrize(("rule", "cut"), [("minmax", False), ("percentile", True), ("entropy", True), ("mse", True)])
    def test_far_tails(self, rule: str, cut: bool) -> None:
        low, high = choose_range(rule, Histogram(self.TAILS, -40.0, 40.0))
        assert (high < 30, low > -30) == (cut, cut)


class TestModels:
    @pytest.mark.parametrize(
        ("data", "told"),
        [
            pytest.param(b"not a model", "no ONNX model", id="no-model"),
            pytest.param(b"", "one input", id="empty"),
            pytest.param(quantize_int8(mlp(), vectors()), "already", id="quantized"),
            pytest.param(mlp()[:-50], "ONNX model|not run", id="truncated"),
        ],
    )
    def test_what_is_refused(self, data: bytes, told: str) -> None:
        with pytest.raises(BadInput, match=told):
            open_float(data)

    def test_nothing_to_quantize(self) -> None:
        fp32 = model([helper.make_node("Relu", ["input"], ["logits"])], {}, ["n", COLUMNS], ["n", COLUMNS])
        with pytest.raises(Failed):
            quantize_int8(fp32, vectors())

    @pytest.mark.parametrize(("fp32", "rows"), CASES)
    def test_tidying_changes_no_answer(self, fp32: bytes, rows: np.ndarray) -> None:
        assert np.allclose(logits(open_float(fp32).model.SerializeToString(), rows), logits(fp32, rows), atol=1e-5)


class TestPreference:
    @pytest.mark.parametrize(
        ("widths", "drop", "preferred"),
        [
            pytest.param((COLUMNS, 48, 48, 3), 0.0, False, id="too-small-to-gain"),
            pytest.param((COLUMNS, 512, 512, 3), 0.005, True, id="large"),
            pytest.param((COLUMNS, 512, 512, 3), 0.01, False, id="worse"),
        ],
    )
    def test_int8_where_it_is_neither_slower_nor_worse(self, widths: tuple[int, ...], drop: float, preferred: bool) -> None:
        assert prefers_int8(mlp(widths), drop, 0.005) == preferred

    def test_a_kernel_multiplies_at_every_place(self) -> None:
        assert products(open_float(cnn())) == 64 * (8 * 9 + 8 * 9 + 8 * 8) + 128 * 4


def measured(drop: float, size: int, latency_ms: float, kind: str = "int8") -> Measured:
    return Measured(Judged(Quantized(Recipe(kind), b"x" * size), 1 - drop, drop, 1.0, 40.0), latency_ms, False)


class TestChoice:
    PLAIN = measured(0.0, 400, 1.0, "float")

    @pytest.mark.parametrize(
        ("others", "chosen"),
        [
            pytest.param([], 0, id="float-alone"),
            pytest.param([measured(0.0, 100, 0.5)], 1, id="smaller-and-faster"),
            pytest.param([measured(0.0, 100, 1.01)], 0, id="never-slower-than-float"),
            pytest.param([measured(0.02, 100, 0.5)], 0, id="never-worse-than-the-budget"),
            pytest.param([measured(0.0, 200, 0.5), measured(0.0, 100, 0.52)], 2, id="the-smallest-of-the-fastest"),
            pytest.param([measured(0.0, 200, 0.5), measured(0.0, 100, 0.6)], 1, id="the-fastest"),
            pytest.param([measured(0.004, 100, 0.5), measured(0.0, 100, 0.5)], 2, id="the-better-of-two-alike"),
        ],
    )
    def test_choice(self, others: list[Measured], chosen: int) -> None:
        tried = [self.PLAIN, *others]
        assert choose(tried, 0.01) is tried[chosen]

    def test_the_front(self) -> None:
        beaten, small, fast = measured(0.01, 300, 0.9), measured(0.0, 100, 0.8), measured(0.02, 350, 0.2)
        assert pareto([self.PLAIN, beaten, small, fast]) == [small, fast]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of rows whose class the first two columns tell, a model for it that somebody made, and a wrong one."""
    found = tmp_path_factory.mktemp("quantize")
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(240, COLUMNS)).astype(np.float32)
    words = np.where(rows[:, 0] + rows[:, 1] > 0, "on", "off")
    head = ",".join([f"c{at}" for at in range(COLUMNS)] + ["y"])
    lines = [",".join([*(f"{value:.5f}" for value in row), word]) for row, word in zip(rows, words, strict=True)]
    (found / "rows.csv").write_text("\n".join([head, *lines]) + "\n")
    (found / "task.toml").write_text(
        '[task]\nname = "t"\n[input]\nkind = "vector"\n[data]\nreader = "csv"\nfile = "rows.csv"\ntarget = "y"\n[split]\nby = "shares"\n'
    )
    weight = np.zeros((COLUMNS, 2), np.float32)
    weight[:2] = [-1, 1]
    nodes = [helper.make_node("MatMul", ["input", "w"], ["logits"])]
    (found / "fp32.onnx").write_bytes(model(nodes, {"w": weight}, ["n", COLUMNS], ["n", 2]))
    (found / "torn.onnx").write_bytes((found / "fp32.onnx").read_bytes()[:-40])
    return found


class TestCommand:
    def run(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        return caught.value.code or 0

    def test_one_recipe(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        out = tmp_path / "int8.onnx"
        assert self.run("quantize", folder / "task.toml", folder / "fp32.onnx", "--out", out, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["bytes"] == out.stat().st_size
        assert told["ms"] > 0
        assert any(words.startswith("slower-than-float") for words in told["warnings"]) == (told["ms"] > 1.05 * told["fp32_ms"])

    def test_a_search(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        out, page = tmp_path / "best.onnx", tmp_path / "report.html"
        asked = ("quantize", folder / "task.toml", folder / "fp32.onnx", "--auto", "--out", out, "--html", page, "--json")
        assert self.run(*asked) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["tried"][0]["recipe"] == "float"
        (chosen,) = [one for one in told["tried"] if "chosen" in one["marks"]]
        assert (chosen["recipe"], chosen["bytes"]) == (told["chosen"], out.stat().st_size)
        assert "slower" not in chosen["marks"]
        assert page.read_text().startswith("<!DOCTYPE html>")

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            pytest.param(["torn.onnx"], "cut short|ONNX", id="torn"),
            pytest.param(["fp32.onnx", "--html", "r.html"], "--auto", id="report-of-no-search"),
            pytest.param(["fp32.onnx", "--profile", "toaster"], "profile", id="no-such-board"),
        ],
    )
    def test_bad_input(self, folder: Path, tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture) -> None:
        out = tmp_path / "out.onnx"
        file, *rest = arguments
        assert self.run("quantize", folder / "task.toml", folder / file, "--out", out, *rest) == 2
        assert re.search(told, capsys.readouterr().err)
        assert not out.exists()
