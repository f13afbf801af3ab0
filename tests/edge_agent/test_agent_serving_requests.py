"""What is wrong with a request for inference is found before the model sees it, and told in a code of the one table."""

from http import HTTPStatus

import numpy as np
import pytest

from edge_agent.catalogue import ModelView
from edge_agent.errors import AgentError, Reject, Retry
from edge_agent.serving.refusals import Refused, refusal_of
from edge_agent.serving.requests import Checker, Checkers, GivenTensor, flat_reader
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.manifest import State
from fleet_contract.outputs import Classification, Raw
from fleet_contract.signature import served_signature
from fleet_contract.tensors import ANY, TensorSpec
from tests.fakes.agent_serving import VECTOR, manifest_of

WINDOW = WindowInput(tensor="x", columns=["a", "b"], low=[0.0, -1.0], high=[1.0, 1.0], length=3, stride=1)
WIDE = VectorInput(tensor="x", columns=["a"], low=[-1e300], high=[1e300])
FLAT = WindowInput(tensor="x", columns=["a"], low=[-1.0], high=[1.0], length=3, stride=1, flat=True)
IMAGE = ImageInput(tensor="x", height=2, width=2, channels=1)
PAIR = TensorsInput([TensorSpec("x", "float32", [ANY, 2]), TensorSpec("y", "bool", [ANY])])
LOOSE = TensorsInput([TensorSpec("x", "float32", [ANY, 2], finite=False)])
STEP = State("h", "h_next", "float32", [1, 2])


def checker(spec: InputSpec = VECTOR, states: list[State] | None = None) -> Checker:
    manifest = manifest_of(spec, Classification("y", ["no", "yes"]), states=states)
    return Checker(ModelView("toy", "1", "onnx_onnxv1", served_signature(manifest), spec))


def x(values: object, shape: list[int] | None = None, datatype: str = "FP32", name: str = "x") -> GivenTensor:
    array = np.array(values, np.float32)
    return GivenTensor(name, datatype, list(array.shape) if shape is None else shape, array.tobytes())


def flat(values: list, shape: list[int], datatype: str = "FP32") -> GivenTensor:
    return GivenTensor("x", datatype, shape, flat_reader(values))


@pytest.mark.parametrize(
    ("spec", "given", "code", "told"),
    [
        pytest.param(VECTOR, [], "bad-tensor", "'x' is missing", id="no-input"),
        pytest.param(VECTOR, [x([[1, 2]], name="z")], "bad-tensor", "no input 'z'", id="unknown-name"),
        pytest.param(VECTOR, [x([[1, 2]]), x([[1, 2]])], "bad-tensor", "given twice", id="twice"),
        pytest.param(VECTOR, [x([[1, 2]], datatype="FP64")], "bad-tensor", "'x' is FP32, not FP64", id="other-type"),
        pytest.param(VECTOR, [x([[1, 2]], datatype="BF16")], "unsupported", "'BF16' is not served", id="type-not-served"),
        pytest.param(VECTOR, [x([1, 2])], "bad-tensor", r"shape \[any, 2\], not \[2\]", id="rank"),
        pytest.param(VECTOR, [x([[1, 2, 3]])], "bad-tensor", r"shape \[any, 2\], not \[1, 3\]", id="columns"),
        pytest.param(VECTOR, [x([[1, 2]], [-1, 2])], "bad-tensor", r"not \[-1, 2\]", id="negative-axis"),
        pytest.param(VECTOR, [x([], [0, 2])], "bad-tensor", "0 rows, not one or more", id="no-rows"),
        pytest.param(VECTOR, [x([[1, 2]], [2, 2])], "bad-tensor", "8 bytes for a float32 tensor", id="too-few-bytes"),
        pytest.param(VECTOR, [x([[1, 2]], [10**12, 2])], "too-large", "2000000000000 values", id="more-values-than-memory"),
        pytest.param(VECTOR, [flat([1, 2, 3], [1, 2])], "bad-tensor", "3 values for the shape", id="too-many-values"),
        pytest.param(VECTOR, [flat([1, "one"], [1, 2])], "bad-tensor", "could not convert", id="text-for-a-number"),
        pytest.param(VECTOR, [x([[np.nan, 2]])], "not-finite", "'x' holds NaN", id="nan"),
        pytest.param(VECTOR, [flat([1e60, 2], [1, 2])], "not-finite", "'x' holds NaN or infinity", id="beyond-float32"),
        pytest.param(VECTOR, [x([[1, 2], [3, 6]])], "out-of-range", r"row 1: b is 6, outside 0 \.\. 5", id="column-out-of-range"),
        pytest.param(WIDE, [x([[np.inf]])], "not-finite", "'x' holds NaN or infinity", id="infinity-within-bounds-beyond-float32"),
        pytest.param(WINDOW, [x([[[0, 0], [0, 0], [0, 2]]])], "out-of-range", "row 0: b is 2", id="window-out-of-range"),
        pytest.param(FLAT, [x([[0, 0, -2]])], "out-of-range", "row 0: a is -2", id="flat-window-out-of-range"),
        pytest.param(IMAGE, [x([[[[0, 255], [256, 0]]]])], "out-of-range", "pixel value 256", id="pixel-out-of-range"),
        pytest.param(PAIR, [x([[1, 2]]), GivenTensor("y", "BOOL", [2], b"\0\1")], "bad-tensor", "'y' has 2 rows, not 1", id="rows-differ"),
        pytest.param(PAIR, [x([[1, 2]]), GivenTensor("y", "BOOL", [1], b"\2")], "bad-tensor", "other than 0 and 1", id="no-truth-value"),
        pytest.param(PAIR, [x([[1, np.inf]]), GivenTensor("y", "BOOL", [1], b"\1")], "not-finite", "'x' holds", id="infinity"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(spec: InputSpec, given: list[GivenTensor], code: str, told: str) -> None:
    with pytest.raises(Refused, match=told) as caught:
        checker(spec).read(given)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("spec", "given", "wanted"),
    [
        pytest.param(VECTOR, x([[-10, 5], [10, 0]]), [[-10, 5], [10, 0]], id="bounds-are-inside"),
        pytest.param(VECTOR, flat([1, 2.5], [1, 2]), [[1, 2.5]], id="flat-values"),
        pytest.param(LOOSE, x([[np.nan, np.inf]]), [[np.nan, np.inf]], id="not-finite-where-it-may-be"),
        pytest.param(FLAT, x([[1, 0, -1]]), [[1, 0, -1]], id="flat-window"),
    ],
)
def test_what_fits_becomes_the_models_input(spec: InputSpec, given: GivenTensor, wanted: list) -> None:
    read = checker(spec).read([given])["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.array(wanted, np.float32))


def test_a_state_may_be_given_or_left_out() -> None:
    model = checker(states=[STEP])
    step = x([[7, 8]], name="h")
    assert set(model.read([x([[1, 2]])])) == {"x"}
    assert set(model.read([step, x([[1, 2]])])) == {"x", "h"}
    with pytest.raises(Refused, match="'h' holds NaN"):
        model.read([x([[np.nan, 0]], name="h"), x([[1, 2]])])


def test_a_model_with_states_takes_one_row_at_a_time() -> None:
    with pytest.raises(Refused, match=r"'x' has shape \[1, 2\], not \[2, 2\]") as caught:
        checker(states=[STEP]).read([x([[1, 2], [3, 4]])])
    assert caught.value.code == "bad-tensor"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [pytest.param([], ("y", "h_next"), id="all"), pytest.param(["h_next"], ("h_next",), id="one")],
)
def test_outputs_are_told_as_wanted(wanted: list[str], found: tuple[str, ...]) -> None:
    assert checker(states=[STEP]).outputs(wanted) == found


@pytest.mark.parametrize("wanted", [["z"], ["y", "y"]])
def test_outputs_that_are_not_there_are_refused(wanted: list[str]) -> None:
    with pytest.raises(Refused, match=r"no output 'z'|twice"):
        checker().outputs(wanted)


def test_a_swapped_model_is_held_to_its_own_signature() -> None:
    checkers = Checkers()
    first, second = (ModelView("toy", "1", "", served_signature(manifest_of(spec, Raw([*PAIR.tensors]))), spec) for spec in (VECTOR, IMAGE))
    assert checkers.of(first) is checkers.of(first)
    assert checkers.of(second).view is second


@pytest.mark.parametrize(
    ("error", "http", "grpc", "retry"),
    [
        pytest.param(Refused("x", code="bad-tensor"), HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", False, id="wrong-request"),
        pytest.param(Refused("x", code="unknown-model"), HTTPStatus.NOT_FOUND, "NOT_FOUND", False, id="unknown-model"),
        pytest.param(Retry("x", code="no-model"), HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", True, id="not-ready"),
        pytest.param(Retry("x", code="overloaded"), HTTPStatus.SERVICE_UNAVAILABLE, "RESOURCE_EXHAUSTED", True, id="overloaded"),
        pytest.param(Retry("x", code="deadline"), HTTPStatus.GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", True, id="deadline"),
        pytest.param(Retry("x", code="worker-crashed"), HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", True, id="crash"),
        pytest.param(Reject("x", code="wrong-answer"), HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", False, id="wrong-answer"),
        pytest.param(AgentError("x", code="new"), HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", False, id="code-of-tomorrow"),
    ],
)
def test_every_error_has_its_statuses(error: AgentError, http: HTTPStatus, grpc: str, retry: bool) -> None:
    told = refusal_of(error)
    assert (told.http, told.grpc, told.retry, told.code) == (http, grpc, retry, error.code)
