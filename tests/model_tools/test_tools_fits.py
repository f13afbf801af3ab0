"""Whether a model will run on a board."""

import dataclasses
import json

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firmware_profiles import catalog
from model_tools.boards.onnx_workload import workload_of
from model_tools.boards.verdict import Subject, judge
from model_tools.boards.workload import Step, Workload, peak_bytes
from model_tools.cli import main
from tests.fakes import agent_run_models as models
from tests.fakes import corpus

KB = 1024


def convolution() -> bytes:
    """1 x 1 x 8 x 8 by 4 kernels of 3 x 3, then a sum over everything."""
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["maps"]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def chain(*sizes: int, operator: str = "Conv", macs: int = 0) -> Workload:
    """Tensors one after the other."""
    steps = [Step(operator, [str(at)], [str(at + 1)], macs) for at in range(len(sizes) - 1)]
    return Workload(steps, ["0"], [str(len(sizes) - 1)], {str(at): size for at, size in enumerate(sizes)}, 0, [])


class TestTheWorkload:
    def test_counts_multiplications_weights_and_the_peak_of_activations(self):
        work = workload_of(convolution())
        assert work.macs == 4 * 6 * 6 * 9
        assert work.weight_bytes == 4 * 9 * 4
        assert peak_bytes(work) == 2 * (4 * 6 * 6) * 4, "the maps before and behind Relu"
        assert work.operators == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1}

    def test_a_size_that_only_a_run_tells_is_unknown(self):
        """Of a tensor with an axis that the input's values set, nothing is known but a lower bound."""
        assert "big" in workload_of(models.memory_bomb()).unknown
        assert not workload_of(convolution()).unknown

    @pytest.mark.parametrize(
        ("work", "most"),
        [
            pytest.param(chain(10, 20, 5), 30, id="a chain forgets"),
            pytest.param(dataclasses.replace(chain(10, 20, 5), outputs=["1", "2"]), 30, id="an output stays"),
            pytest.param(
                Workload(
                    [Step("a", ["0"], ["1"], 0), Step("b", ["1"], ["2"], 0), Step("c", ["0", "2"], ["3"], 0)],
                    ["0"],
                    ["3"],
                    {"0": 10, "1": 20, "2": 20, "3": 1},
                    0,
                    [],
                ),
                50,
                id="a shortcut keeps its input",
            ),
            pytest.param(chain(7), 7, id="no steps"),
        ],
    )
    def test_the_peak_follows_what_lives(self, work, most):
        assert peak_bytes(work) == most

    def test_weights_in_branches_count_too(self):
        inner = helper.make_graph(
            [
                helper.make_node("Constant", [], ["big"], value=numpy_helper.from_array(np.ones(1_000, np.float32))),
                helper.make_node("ReduceSum", ["big"], ["out"], keepdims=0),
            ],
            "inner",
            [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [])],
        )
        model = onnx.load_from_string(models.linear())
        model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "yes"))
        model.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=inner, else_branch=inner))
        assert workload_of(model.SerializeToString()).weight_bytes >= 8_000


def subject(**changes: object) -> Subject:
    return Subject(**{"runtime": "onnxruntime", "precision": "fp32", "file_bytes": KB, "work": chain(KB, KB), **changes})


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("board", "model", "words"),
        [
            pytest.param("raspberry-pi-5", subject(), None, id="a small model fits"),
            pytest.param("armv7-512mb", subject(file_bytes=200 * KB * KB), "the worker of the profile may take 192", id="too large"),
            pytest.param("raspberry-pi-5", subject(memory_mb=10), "the bundle's limits may take 10", id="over the bundle's memory"),
            pytest.param(
                "armv7-512mb", subject(latency_ms=1, work=chain(KB, KB, macs=10**9)), "(estimated), and 1 are allowed", id="far too slow"
            ),
            pytest.param("armv7-512mb", subject(latency_ms=1.0, work=chain(KB, KB, macs=10**6)), None, id="slow within the doubt"),
        ],
    )
    def test_refuses_with_the_reason(self, board, model, words):
        verdict = judge(model, catalog.load(board))
        assert verdict.fits == (words is None)
        assert words is None or words in verdict.reasons[0]

    def test_what_was_measured_counts_more_than_the_estimate(self):
        board, model = catalog.load("generic-x86-64"), subject(latency_ms=1.0)
        assert judge(model, board, measured_ms=0.5).fits
        assert "takes 2 ms here" in judge(model, board, measured_ms=2.0).reasons[0]

    def test_says_what_each_backend_takes(self):
        found = {one.backend: one for one in judge(subject(work=chain(1, 1, 1, operator="Loop")), catalog.load("raspberry-pi-5")).backends}
        assert found["onnxruntime:cpu"].coverage == "all"
        assert (found["onnxruntime:xnnpack"].coverage, found["onnxruntime:xnnpack"].left) == ("none", ["Loop"])
        assert found["litert:cpu"].coverage == "none"
        assert found["onnxruntime:hailo"].reason

    def test_a_precision_that_nothing_takes_is_refused(self):
        board = catalog.load("raspberry-pi-5")
        float_only = [msgspec.structs.replace(backend, precisions=("fp32",)) for backend in board.backends]
        verdict = judge(subject(precision="int8"), msgspec.structs.replace(board, backends=float_only))
        assert "no backend of raspberry-pi-5 takes a int8 model" in verdict.reasons[0]


class TestTheCommand:
    def answered(self, capfd, *arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["fits", *map(str, arguments)])
        told = capfd.readouterr()
        return ended.value.code or 0, told.out + told.err

    def test_a_bundle_brings_its_limits(self, tmp_path, capfd):
        (tmp_path / "a.bundle").write_bytes(models.bundle())
        code, told = self.answered(capfd, tmp_path / "a.bundle", "generic-arm64", "--json")
        assert code == 0, told
        assert json.loads(told)["fits"]

    def test_what_does_not_fit_ends_with_3_and_says_why(self, tmp_path, capfd):
        (tmp_path / "a.onnx").write_bytes(convolution())
        code, told = self.answered(capfd, tmp_path / "a.onnx", "generic-arm64", "--memory-mb", "20")
        assert code == 3
        assert "may take 20" in told

    @pytest.mark.parametrize(
        ("model", "board"),
        [pytest.param(b"no model", "generic-arm64", id="no model"), pytest.param(convolution(), "toaster", id="no such board")],
    )
    def test_bad_input_ends_with_2(self, tmp_path, capfd, model, board):
        (tmp_path / "a.onnx").write_bytes(model)
        assert self.answered(capfd, tmp_path / "a.onnx", board)[0] == 2

    def test_a_tflite_file_on_an_accelerator(self, capfd):
        file = corpus.folder() / "mlperf_tiny/models/vww_96_int8.tflite"
        if not file.exists():
            pytest.skip("no corpus of models here (EDGEFLEET_CORPUS)")
        pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
        code, told = self.answered(capfd, file, "coral-dev-board-mini", "--json")
        found = json.loads(told[: told.rindex("}") + 1])
        assert (code, found["macs"]) == (0, 7_489_664)
        assert {one["backend"]: one["share"] for one in found["backends"]}["litert:edgetpu"] == 1.0
