"""How values meet a graph's own types: every type of both engines, scales, fixed rows, and what does not fit."""

from dataclasses import dataclass

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as engine

from edge_agent.errors import Reject
from edge_agent.inference.plan import Bound, GraphSignature, GraphTensor, Plan
from edge_agent.inference.runtimes.binding import Binding
from edge_agent.inference.runtimes.port import Runtime, open_runtime
from firmware_profiles.catalog import Backend
from fleet_contract.tensors import DType
from tests.fakes import tflite_models

ONNX = Backend(name="cpu", runtime="onnxruntime", provider="CPUExecutionProvider")
LITERT = Backend(name="cpu", runtime="litert", provider="interpreter")
COMPILED = Backend(name="cpu", runtime="litert", provider="compiled")
ONNX_TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE} | {
    kind: getattr(TensorProto, kind.upper()) for kind in DType.__args__ if not kind.startswith("float")
}
BY_COMPILED = ("uint8", "int8", "int32", "float16", "float32")
TEXT = np.array([[b"", "grüße".encode()], [b"a", b"b" * 300], [b"c", b"d"]], object)


def identity(backend: Backend, dtype: str) -> bytes:
    """output = input, of shape (any, 2)."""
    if backend.runtime == "litert":
        return tflite_models.identity(dtype)
    given, told = (helper.make_tensor_value_info(name, ONNX_TYPES[dtype], ["n", 2]) for name in ("input", "output"))
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "g", [given], [told])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def opened(backend: Backend, model: bytes, taken: Bound, told: Bound, rows: int = 0) -> Runtime:
    runtime = open_runtime(backend)
    runtime.load(model, Plan([taken], [told], backend.provider, {}, "fp32", 1, rows))
    return runtime


def values_of(dtype: str) -> np.ndarray:
    if dtype == "string":
        return TEXT
    if dtype == "bool":
        return np.array([[True, False], [False, False], [True, True]])
    if dtype.startswith("float"):
        return np.array([[0.5, -2], [65504, 1e-3], [np.inf, -0.0]], dtype)
    bounds = np.iinfo(dtype)
    return np.array([[bounds.min, bounds.max], [0, 1], [7, 100]], dtype)


EVERY = [
    *(pytest.param(backend, dtype, id=f"{dtype}-{backend.id}") for backend in (ONNX, LITERT) for dtype in DType.__args__),
    *(pytest.param(COMPILED, dtype, id=f"{dtype}-compiled") for dtype in BY_COMPILED),
]


@pytest.mark.parametrize(("backend", "dtype"), EVERY)
def test_every_type_goes_through(backend: Backend, dtype: str) -> None:
    runtime = opened(backend, identity(backend, dtype), Bound("x", "input", dtype), Bound("y", "output", dtype))
    values = values_of(dtype)
    answer = runtime.infer({"x": values})["y"]
    assert answer.dtype == values.dtype
    np.testing.assert_array_equal(answer, values)


@pytest.mark.parametrize("backend", [ONNX, LITERT, COMPILED], ids=lambda b: b.name + b.provider)
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5])
def test_a_batch_goes_in_steps_of_what_the_graph_takes(backend: Backend, rows: int) -> None:
    runtime = opened(backend, identity(backend, "float32"), Bound("x", "input", "float32"), Bound("y", "output", "float32"), rows)
    for count in (1, 2, 3, 5, 8):
        values = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
        np.testing.assert_array_equal(runtime.infer({"x": values})["y"], values)


@pytest.mark.parametrize("backend", [ONNX, LITERT, COMPILED], ids=lambda b: b.name + b.provider)
def test_a_runtime_takes_one_model_after_the_other_and_none_after_the_last(backend: Backend) -> None:
    runtime = open_runtime(backend)
    values = np.ones((3, 2), np.float32)
    for _ in range(2):
        plan = Plan([Bound("x", "input", "float32")], [Bound("y", "output", "float32")], backend.provider, {}, "fp32", 1)
        signature = runtime.load(identity(backend, "float32"), plan)
        assert [(t.name, t.dtype, t.shape) for t in signature.inputs] == [("input", "float32", [-1, 2])]
        np.testing.assert_array_equal(runtime.infer({"x": values})["y"], values)
    runtime.unload()
    runtime.unload()
    with pytest.raises(Reject, match="no model is loaded"):
        runtime.infer({"x": values})


@pytest.mark.parametrize("backend", [ONNX, LITERT], ids=lambda b: b.name + b.provider)
def test_addresses_that_do_not_fit_and_strides_are_no_matter(backend: Backend) -> None:
    runtime = opened(backend, identity(backend, "float32"), Bound("x", "input", "float32"), Bound("y", "output", "float32"))
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    odd = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 2)
    for given in (odd, np.asfortranarray(values), values[::-1][::-1], np.repeat(values, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(runtime.infer({"x": given})["y"], values)


def test_a_file_with_a_signature_goes_by_its_names() -> None:
    model = tflite_models.identity("float32", signature=True)
    runtime = opened(LITERT, model, Bound("x", "the_input", "float32"), Bound("y", "the_output", "float32"))
    np.testing.assert_array_equal(runtime.infer({"x": np.ones((1, 2), np.float32)})["y"], [[1, 1]])


@dataclass(frozen=True)
class Case:
    """`given` in the caller's type becomes `stored` in the graph's."""

    what: str
    taken: Bound
    graph: GraphTensor
    given: list[float]
    stored: list[float]


ENTERING = [
    Case("pixels scaled", Bound("x", "g", "float32", 1 / 128, -1), GraphTensor("g", "float32", [-1]), [0, 128, 255], [-1, 0, 0.9921875]),
    Case("scaled, then quantized", Bound("x", "g", "float32", 2, 1), GraphTensor("g", "int8", [-1], 0.5, -3), [0, 1, -1], [-1, 3, -5]),
    Case("quantized and kept within", Bound("x", "g", "float32"), GraphTensor("g", "int8", [-1], 0.1, 10), [-99, 99, 0], [-128, 127, 10]),
    Case("quantized without a sign", Bound("x", "g", "float32"), GraphTensor("g", "uint8", [-1], 1.0, 0), [-3, 254.6, 300], [0, 255, 255]),
    Case(
        "quantized to 16 bits", Bound("x", "g", "float32"), GraphTensor("g", "int16", [-1], 2**-15, 0), [-1, 0.5, 1], [-32768, 16384, 32767]
    ),
    Case("whole values quantized", Bound("x", "g", "uint8"), GraphTensor("g", "int8", [-1], 1.0, -128), [0, 128, 255], [-128, 0, 127]),
    Case("quantized values as they are", Bound("x", "g", "int8"), GraphTensor("g", "int8", [-1], 0.5, 3), [-128, 0, 127], [-128, 0, 127]),
    Case("rounded to even", Bound("x", "g", "float32"), GraphTensor("g", "uint8", [-1]), [0.5, 1.5, 2.5], [0, 2, 2]),
    Case("endless, kept within", Bound("x", "g", "float32"), GraphTensor("g", "int32", [-1]), [np.inf, -np.inf], [2147483520, -(2**31)]),
    Case(
        "narrower whole numbers", Bound("x", "g", "int64"), GraphTensor("g", "int32", [-1]), [2**40, -(2**40), 5], [2**31 - 1, -(2**31), 5]
    ),
    Case("a sign lost", Bound("x", "g", "int32"), GraphTensor("g", "uint64", [-1]), [-1, 5], [0, 5]),
    Case("half precision", Bound("x", "g", "float32"), GraphTensor("g", "float16", [-1]), [0.1, 2], [np.float16(0.1), 2]),
    Case("wider", Bound("x", "g", "uint8"), GraphTensor("g", "float32", [-1]), [7, 255], [7, 255]),
    Case("booleans as numbers", Bound("x", "g", "bool"), GraphTensor("g", "float32", [-1]), [0, 1], [0, 1]),
]


@pytest.mark.parametrize("case", ENTERING, ids=lambda case: case.what)
def test_values_become_the_graphs_own(case: Case) -> None:
    fed: dict[str, np.ndarray] = {}

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        fed.update(inputs)
        return []

    given = np.array(case.given).astype(case.taken.dtype)
    binding_of([case.taken], [case.graph], [], []).infer({"x": given}, run)
    assert fed["g"].dtype == case.graph.dtype
    np.testing.assert_array_equal(fed["g"], np.array(case.stored).astype(case.graph.dtype))
    np.testing.assert_array_equal(given, np.array(case.given).astype(case.taken.dtype))  # the caller's stay as they were


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(GraphTensor("g", "int8", [-1], 1.0, -128), id="quantized"),
        pytest.param(GraphTensor("g", "uint8", [-1], 1 / 255, 0), id="quantized without a sign"),
        pytest.param(GraphTensor("g", "int16", [-1], 0.01, 0), id="quantized to 16 bits"),
        pytest.param(GraphTensor("g", "uint8", [-1]), id="whole"),
        pytest.param(GraphTensor("g", "float32", [-1]), id="real"),
        pytest.param(GraphTensor("g", "float16", [-1]), id="half"),
    ],
)
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (1 / 255, 0.0), (2 / 255, -1.0)], ids=str)
def test_pixels_as_bytes_become_what_pixels_as_floats_become(graph: GraphTensor, scaling: tuple[float, float]) -> None:
    fed: list[np.ndarray] = []
    binding = binding_of([Bound("x", "g", "float32", *scaling)], [graph], [], [])
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    for given in (pixels, pixels.astype(np.float32)):
        binding.infer({"x": given}, lambda inputs: fed.append(inputs["g"]) or [])
    assert fed[0].dtype == fed[1].dtype == graph.dtype
    np.testing.assert_array_equal(*fed)


LEAVING = [
    pytest.param(GraphTensor("g", "int8", [-1], 0.5, -128), [-128, 127], "float32", [0, 127.5], id="real values again"),
    pytest.param(GraphTensor("g", "uint8", [-1], 1 / 256, 0), [255], "float64", [255 / 256], id="in double precision"),
    pytest.param(GraphTensor("g", "int8", [-1], 0.5, -128), [-128, 127], "int8", [-128, 127], id="quantized, as asked for"),
    pytest.param(GraphTensor("g", "float16", [-1]), [1.5, np.inf], "float32", [1.5, np.inf], id="half precision"),
    pytest.param(GraphTensor("g", "float64", [-1]), [0.1], "float32", [np.float32(0.1)], id="double precision"),
    pytest.param(GraphTensor("g", "int64", [-1]), [-3, 5], "float32", [-3, 5], id="classes as numbers"),
    pytest.param(GraphTensor("g", "bool", [-1]), [True, False], "float32", [1, 0], id="booleans"),
    pytest.param(GraphTensor("g", "uint8", [-1]), [200], "int32", [200], id="wider"),
]


@pytest.mark.parametrize(("graph", "stored", "dtype", "wanted"), LEAVING)
def test_the_graphs_values_become_the_callers(graph: GraphTensor, stored: list, dtype: str, wanted: list) -> None:
    binding = binding_of([], [], [Bound("y", "g", dtype)], [graph])
    answer = binding.infer({}, lambda _: [np.array(stored).astype(graph.dtype)])["y"]
    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, np.array(wanted).astype(dtype))


UNFIT = [
    pytest.param(Bound("x", "h", "float32"), GraphTensor("g", "float32", [-1]), False, id="another name"),
    pytest.param(Bound("x", "g", "string"), GraphTensor("g", "float32", [-1]), False, id="text for a number"),
    pytest.param(Bound("x", "g", "float32"), GraphTensor("g", "string", [-1]), False, id="a number for text"),
    pytest.param(Bound("x", "g", "float32"), GraphTensor("g", "bool", [-1]), False, id="a number for a boolean"),
    pytest.param(Bound("x", "g", "float32"), GraphTensor("g", "bfloat16", [-1]), False, id="a type that we have not"),
    pytest.param(Bound("x", "g", "float32"), GraphTensor("g", "seq(map(int64,tensor(float)))", []), True, id="no tensor"),
    pytest.param(Bound("x", "g", "int32"), GraphTensor("g", "float32", [-1]), True, id="a whole number of a real one"),
    pytest.param(Bound("x", "g", "int8"), GraphTensor("g", "int64", [-1]), True, id="a narrower whole number"),
    pytest.param(Bound("x", "g", "int16"), GraphTensor("g", "int8", [-1], 0.5, 0), True, id="a whole number of a quantized one"),
]


@pytest.mark.parametrize(("bound", "graph", "leaves"), UNFIT)
def test_what_does_not_fit_is_refused_before_it_runs(bound: Bound, graph: GraphTensor, leaves: bool) -> None:
    with pytest.raises(Reject) as refused:
        binding_of([], [], [bound], [graph]) if leaves else binding_of([bound], [graph], [], [])
    assert refused.value.code == "bundle"


def test_an_input_that_the_plan_leaves_out_is_refused_and_an_output_is_not() -> None:
    with pytest.raises(Reject, match="the graph's inputs are a, b; the bundle wants a"):
        binding_of([Bound("a", "a", "float32")], [GraphTensor(name, "float32", [-1]) for name in "ab"], [], [])
    binding_of([], [], [Bound("a", "a", "float32")], [GraphTensor(name, "float32", [-1]) for name in "ab"])


@pytest.mark.parametrize("scale", [0.0, 0.5], ids=["whole numbers", "quantized"])
def test_a_whole_number_cannot_stand_for_nan(scale: float) -> None:
    binding = binding_of([Bound("x", "g", "float32")], [GraphTensor("g", "int8", [-1], scale, 0)], [], [])
    with pytest.raises(Reject) as refused:
        binding.infer({"x": np.array([1, np.nan], np.float32)}, lambda _: [])
    assert refused.value.code == "bad-input"


def test_text_that_onnx_runtime_cannot_take_is_refused_and_litert_takes_any() -> None:
    given = {"x": np.array([[b"\xff", b"a"]], object)}
    bounds = Bound("x", "input", "string"), Bound("y", "output", "string")
    assert opened(LITERT, identity(LITERT, "string"), *bounds).infer(given)["y"].tolist() == [[b"\xff", b"a"]]
    with pytest.raises(Reject) as refused:
        opened(ONNX, identity(ONNX, "string"), *bounds).infer(given)
    assert refused.value.code == "bad-input"


def test_a_tensor_with_a_scale_an_axis_is_refused() -> None:
    model = tflite_models.quantized(0.5, 0, scales=[0.5, 0.25])
    with pytest.raises(Reject, match="2 scales"):
        opened(LITERT, model, Bound("x", "input", "float32"), Bound("y", "output", "float32"))


@pytest.mark.parametrize("dtype", ["int64", "string"])
def test_what_compiled_models_have_no_buffer_for_is_not_their_backends(dtype: str) -> None:
    with pytest.raises(Reject) as refused:
        opened(COMPILED, identity(COMPILED, dtype), Bound("x", "input", dtype), Bound("y", "output", dtype))
    assert refused.value.code == "no-variant"


def test_rows_that_leave_a_state_behind_go_one_step_at_a_time() -> None:
    taken = [Bound("x", "x", "float32"), Bound("s", "s", "float32", rows=False)]
    told = [Bound("y", "y", "float32"), Bound("t", "t", "float32", rows=False)]
    tensors = {name: GraphTensor(name, "float32", [-1]) for name in "xsyt"}
    binding = binding_of(taken, [tensors["x"], tensors["s"]], told, [tensors["y"], tensors["t"]], rows=1)

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [inputs["x"] + inputs["s"].sum(), inputs["s"] + 1]

    state = np.zeros(3, np.float32)
    assert binding.infer({"x": np.ones(1, np.float32), "s": state}, run)["t"].tolist() == [1, 1, 1]
    with pytest.raises(Reject, match="2 rows at once"):
        binding.infer({"x": np.ones(2, np.float32), "s": state}, run)


BACKENDS_THAT_ARE_NOT_HERE = [
    pytest.param(Backend(name="cuda", runtime="onnxruntime", provider="CUDAExecutionProvider"), id="a provider that this build lacks"),
    pytest.param(
        Backend(name="x", runtime="onnxruntime", provider="XExecutionProvider", library="/nowhere/libx.so"), id="a plugin that is not there"
    ),
    pytest.param(
        Backend(name="x", runtime="onnxruntime", provider="XExecutionProvider", library="libm.so.6"), id="a library that is no plugin"
    ),
    pytest.param(
        Backend(name="x", runtime="litert", provider="interpreter", library="/nowhere/libx.so"), id="a delegate that is not there"
    ),
    pytest.param(Backend(name="x", runtime="litert", provider="interpreter", library="libm.so.6"), id="a library that is no delegate"),
    pytest.param(Backend(name="x", runtime="litert", provider="magic", supported=False, reason="told"), id="an unknown provider of LiteRT"),
    pytest.param(
        Backend(name="x", runtime="litert", provider="compiled", library="libnowhere.so"), id="a dispatch library that is not there"
    ),
    pytest.param(Backend(name="x", runtime="litert", provider="compiled", options={"accelerator": "warp"}), id="an unknown accelerator"),
]


@pytest.mark.parametrize("backend", BACKENDS_THAT_ARE_NOT_HERE)
def test_a_backend_that_cannot_be_opened_says_so(backend: Backend) -> None:
    with pytest.raises(Reject) as refused:
        open_runtime(backend)
    assert refused.value.code == "no-variant"


def test_options_of_the_session_reach_the_session() -> None:
    """Told to read another format, the engine does not read this one."""
    bounds = [Bound("x", "input", "float32")], [Bound("y", "output", "float32")]
    for form, is_read in (("ONNX", True), ("ORT", False)):
        options = {"session.load_model_format": form}
        runtime = open_runtime(Backend(name="cpu", runtime="onnxruntime", provider=ONNX.provider, options=options))
        try:
            runtime.load(identity(ONNX, "float32"), Plan(*bounds, ONNX.provider, options, "fp32", 1))
            assert is_read
        except engine.Fail:
            assert not is_read


def binding_of(taken: list[Bound], inputs: list[GraphTensor], told: list[Bound], outputs: list[GraphTensor], rows: int = 0) -> Binding:
    return Binding(Plan(taken, told, "CPUExecutionProvider", {}, "fp32", 1, rows), GraphSignature(inputs, outputs))
