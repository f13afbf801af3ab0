"""From ONNX to TFLite: what each operator becomes, and what is refused."""

import numpy as np
import pytest

from tests.fakes.onnx_graphs import graph, values

pytest.importorskip("ai_edge_litert", reason="the extra `tflite` is not installed")

from model_tools.errors import BadInput
from model_tools.graphs import LiteRtGraph, OnnxGraph
from model_tools.litert import flatbuffer
from model_tools.litert.conversion import OPERATORS, convert_to_tflite
from tests.architecture.sources import ROOT

PICTURE, LINE, TABLE = "rows, 3, 9, 8", "rows, 4, 12", "rows, 6"
KERNEL, DEEP, GROUPED = values(8, 3, 3, 3), values(6, 1, 3, 3), values(8, 2, 3, 3)


def operators(file: bytes) -> list[str]:
    model = flatbuffer.decode(file)
    return [flatbuffer.operator_name(model, operator) for operator in model.subgraphs[0].operators]


CASES = [
    pytest.param(TABLE, "logits = Gemm<transB = 1>(input, w, b)", {"w": values(3, 6), "b": values(3)}, ["FULLY_CONNECTED"], id="dense"),
    pytest.param(TABLE, "h = MatMul(input, w) logits = Relu(h)", {"w": values(6, 3)}, ["FULLY_CONNECTED"], id="dense-relu-in-one"),
    pytest.param(TABLE, "logits = Asinh(input)", {}, None, id="asinh"),
    pytest.param(TABLE, "logits = Erf(input)", {}, None, id="erf"),
    pytest.param(TABLE, "s = Softplus(input) g = Greater(input, b) logits = Where(g, input, s)", {"b": np.float32(2)}, None, id="where"),
    pytest.param(TABLE, "logits = LayerNormalization(input, s, b)", {"s": values(6), "b": values(6)}, None, id="layer-norm"),
    pytest.param(
        PICTURE,
        'logits = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(input, , s)',
        {"s": np.float32([1, 1, 2, 2])},
        None,
        id="resize",
    ),
    pytest.param(
        TABLE,
        "h = Clip(input, low, high) logits = Sigmoid(h)",
        {"low": np.float32(0), "high": np.float32(6)},
        ["RELU6", "LOGISTIC"],
        id="relu6",
    ),
    pytest.param(TABLE, "h = Sub(input, m) logits = Mul(h, k)", {"m": values(1, 6), "k": values(1, 6)}, ["SUB", "MUL"], id="normalisation"),
    pytest.param(TABLE, "logits = Softmax<axis = 1>(input)", {}, ["SOFTMAX"], id="softmax"),
    pytest.param(
        TABLE,
        "d = Sub(input, m) s = Mul(d, d) logits = ReduceMean<keepdims = 1>(s, a)",
        {"m": values(1, 6), "a": np.int64([1])},
        None,
        id="error",
    ),
    pytest.param(
        PICTURE, "logits = Conv<pads = [1, 1, 1, 1]>(input, w)", {"w": KERNEL}, ["TRANSPOSE", "CONV_2D", "TRANSPOSE"], id="conv-same"
    ),
    pytest.param(PICTURE, "logits = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(input, w)", {"w": KERNEL}, None, id="conv-stride"),
    pytest.param(PICTURE, "logits = Conv<pads = [2, 2, 2, 2], dilations = [2, 2]>(input, w)", {"w": KERNEL}, None, id="conv-dilated"),
    pytest.param(PICTURE, "logits = Conv<group = 3, pads = [1, 1, 1, 1]>(input, w)", {"w": DEEP}, None, id="conv-depthwise-twice"),
    pytest.param("rows, 4, 9, 8", "logits = Conv<group = 2>(input, w)", {"w": GROUPED}, None, id="conv-grouped"),
    pytest.param(LINE, "logits = Conv<pads = [2, 2], strides = [2]>(input, w)", {"w": values(5, 4, 5)}, None, id="conv-of-a-line"),
    pytest.param(
        PICTURE,
        "h = Conv(input, w) r = Relu(h) logits = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(r)",
        {"w": KERNEL},
        None,
        id="max-pool-over-zeros",
    ),
    pytest.param(
        PICTURE, "logits = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(input)", {}, None, id="max-pool-over-any"
    ),
    pytest.param(
        PICTURE,
        "logits = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(input)",
        {},
        None,
        id="average-with-border",
    ),
    pytest.param(PICTURE, "logits = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(input)", {}, None, id="average-without"),
    pytest.param(
        PICTURE, "h = GlobalAveragePool(input) f = Flatten(h) logits = Gemm(f, w)", {"w": values(3, 2)}, None, id="global-average"
    ),
    pytest.param(
        PICTURE,
        "h = Conv(input, w) f = Flatten(h) logits = Gemm(f, v)",
        {"w": KERNEL, "v": values(8 * 7 * 6, 4)},
        None,
        id="flatten-in-onnx-order",
    ),
    pytest.param(
        "rows, 12, 4",
        "t = Transpose<perm = [0, 2, 1]>(input) logits = Conv(t, w)",
        {"w": values(5, 4, 3)},
        ["RESHAPE", "CONV_2D", "TRANSPOSE", "RESHAPE"],
        id="window",
    ),
    pytest.param(
        PICTURE,
        "a = Conv(input, w) b = Conv(input, v) c = Concat<axis = 1>(a, b) logits = Add(c, k)",
        {"w": KERNEL, "v": KERNEL, "k": values(16, 1, 1)},
        None,
        id="concat-of-channels",
    ),
    pytest.param(
        PICTURE,
        "logits = Slice(input, s, e, a)",
        {"s": np.int64([1, -4]), "e": np.int64([9, 2**40]), "a": np.int64([2, 3])},
        None,
        id="slice",
    ),
    pytest.param(PICTURE, "s = Shape(input) logits = Reshape(input, t)", {"t": np.int64([0, -1])}, ["RESHAPE"], id="reshape"),
    pytest.param(
        PICTURE,
        "logits = BatchNormalization(input, s, b, m, v)",
        {"s": values(3), "b": values(3), "m": values(3), "v": np.float32([1, 2, 3])},
        ["MUL", "ADD"],
        id="batch-norm",
    ),
    pytest.param(
        "1, 3, 5, 5",
        "logits = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(input, w)",
        {"w": values(3, 4, 4, 4)},
        None,
        id="conv-transposed",
    ),
]


@pytest.mark.parametrize(("given", "body", "constants", "wanted"), CASES)
def test_the_file_answers_as_the_model_does(given: str, body: str, constants: dict[str, np.ndarray], wanted: list[str] | None) -> None:
    model = graph(given, body, **constants)
    file = convert_to_tflite(model)
    assert wanted is None or operators(file) == wanted
    rows = 1 if given.startswith("1") else 5
    fed = {"input": 3 * values(rows, *(int(size) for size in given.split(",")[1:]), seed=1)}
    (one,), (other,) = OnnxGraph(model, fused=False).run(fed, ["logits"]), LiteRtGraph(file, fused=True).run(fed, ["logits"])
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1e-4 * max(1, np.abs(one).max())


def test_names_and_open_rows_are_kept() -> None:
    opened = LiteRtGraph(convert_to_tflite(graph(TABLE, "logits = Relu(input)")), fused=True)
    assert {name: tensor.shape for name, tensor in opened.inputs.items()} == {"input": (-1, 6)}
    assert {name: tensor.shape for name, tensor in opened.outputs.items()} == {"logits": (-1, 6)}


def test_the_same_model_gives_the_same_bytes() -> None:
    model = graph(PICTURE, "logits = Conv<pads = [1, 1, 1, 1]>(input, w)", w=KERNEL)
    assert convert_to_tflite(model) == convert_to_tflite(model)


def test_an_asinh_of_what_has_no_square_is_finite() -> None:
    opened = LiteRtGraph(convert_to_tflite(graph(TABLE, "logits = Asinh(input)")), fused=True)
    far = np.float32([[1e30, -1e30, 1e-6, 0, 1, -3]])
    assert opened.run({"input": far}, ["logits"])[0] == pytest.approx(np.arcsinh(far), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "body", "constants", "field"),
    [
        pytest.param(TABLE, "logits = Cosh(input)", {}, "Cosh", id="unknown-operator"),
        pytest.param("rows, 3, any, 8", "logits = Relu(input)", {}, "model.inputs", id="open-sides"),
        pytest.param(TABLE, "logits = ReduceMean<keepdims = 0>(input, a)", {"a": np.int64([0])}, "ReduceMean", id="over-rows"),
        pytest.param("rows, 2, 4, 4, 4", "logits = Conv(input, w)", {"w": values(2, 2, 3, 3, 3)}, "Conv", id="three-axes"),
    ],
)
def test_what_cannot_be_converted_is_named(given: str, body: str, constants: dict[str, np.ndarray], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        convert_to_tflite(graph(given, body, **constants))
    assert refused.value.field == field


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"\x08\x0a\x12"], ids=["empty", "pickle", "torn"])
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        convert_to_tflite(data)


def test_the_page_names_the_operators() -> None:
    page = (ROOT / "docs/workbench/tflite.md").read_text().splitlines()
    assert " ".join(line[2:] for line in page if line.startswith("> ")).split() == sorted(OPERATORS)


def test_a_torn_tflite_file_is_refused_or_whole() -> None:
    """Whatever bytes are turned over in it."""
    file = convert_to_tflite(graph(PICTURE, "logits = Conv<pads = [1, 1, 1, 1]>(input, w)", w=KERNEL))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        torn = bytearray(file)
        for at in rng.integers(8, len(file), 4):
            torn[at] = rng.integers(256)
        try:
            flatbuffer.decode(bytes(torn))
        except BadInput:
            refused += 1
    assert refused
