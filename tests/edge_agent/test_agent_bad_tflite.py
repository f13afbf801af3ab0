"""What comes of TFLite files that are broken, or made to break: a code, within the worker's limits."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_agent.clock import SystemClock
from edge_agent.errors import Reject
from edge_agent.inference.child import Child, ChildLost, Deadlines, Wanted
from edge_agent.inference.plan import Bound, Plan
from firmware_profiles.catalog import Backend
from tests.fakes import agent_run_models as models
from tests.fakes import tflite_models
from tests.fakes.tflite_models import Slot, Step

GOOD = tflite_models.linear(models.WEIGHT)
NOISE = random.Random(7)
CODES = {"bundle", "memory", "child-crash"}


def altered(seed: int) -> bytes:
    """A few bytes of a good file behind its mark are others."""
    draw, data = random.Random(seed), bytearray(GOOD)
    for _ in range(1 + seed % 3):
        data[draw.randrange(8, len(data))] = draw.randrange(256)
    return bytes(data)


def product(inputs: list[int], output: int, weight: np.ndarray = models.WEIGHT, shape: tuple[int, ...] = (2, 2)) -> bytes:
    """logits = input @ weight, with these tensors for the operator's and this shape said of the weight."""
    slots = [Slot("input", "float32", [1, 2]), Slot("w", "float32", shape, weight, open=False), Slot("logits", "float32", [1, 2])]
    options = (schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT())
    return tflite_models.graph(slots, [Step(schema.BuiltinOperator.FULLY_CONNECTED, inputs, [output], options=options)], [0], [2])


@pytest.fixture(params=["interpreter", "compiled"])
def child(request: pytest.FixtureRequest) -> Iterator[Child]:
    backend = Backend(name="cpu", runtime="litert", provider=request.param)
    plan = Plan([Bound("input", "input", "float32")], [Bound("logits", "logits", "float32")], backend.provider, {}, "fp32", 1)
    with ThreadPoolExecutor(1) as starter:
        child = Child(Wanted(backend, plan, memory_mb=256), SystemClock(), starter, Deadlines(load_s=5.0, infer_s=1.0))
        yield child
        child.close()


def answer(child: Child, model: bytes) -> np.ndarray:
    """Raises Reject or ChildLost."""
    child.load(lambda: model)
    return child.infer({"input": models.KNOWN_INPUTS}, 0.1, 4096)["logits"]


def test_a_good_file_is_answered(child: Child) -> None:
    np.testing.assert_allclose(answer(child, GOOD), models.KNOWN_LOGITS)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(GOOD[:10], id="a mark and no more"),
        pytest.param(GOOD[:-20], id="cut short"),
        pytest.param(NOISE.randbytes(4_000), id="noise"),
        pytest.param(b"\x1c\0\0\0TFL3" + NOISE.randbytes(4_000), id="noise behind a mark"),
        pytest.param(models.linear(), id="an ONNX file"),
        pytest.param(tflite_models.custom("Mystery"), id="an operator of its own"),
        pytest.param(tflite_models.custom("FlexErf"), id="an operator of TensorFlow's"),
        pytest.param(tflite_models.huge(2**31 - 1), id="a tensor of 8 GiB within"),
        pytest.param(tflite_models.huge(2**28), id="a tensor of 1 GiB within"),
        pytest.param(product([0, 9, -1], 2), id="an operator that reads what is not there"),
        pytest.param(product([0, 1, -1], 9), id="an operator that writes what is not there"),
        pytest.param(product([0, 1, -1], 2, shape=(2, 2**20)), id="a weight larger than its bytes"),
        pytest.param(product([0, 1, -1], 2, shape=(2, -2)), id="a weight of negative size"),
        pytest.param(product([0, 1, -1], 2, shape=(2**31 - 1, 2**31 - 1)), id="a weight whose size overflows"),
        pytest.param(product([0, 1, -1], 1), id="an operator that writes over the weights"),
    ],
)
def test_a_hostile_file_ends_in_a_code(child: Child, model: bytes) -> None:
    with pytest.raises((Reject, ChildLost)) as refused:
        answer(child, model)
    assert refused.value.code in CODES


def test_a_loop_without_an_end_meets_its_deadline(child: Child) -> None:
    child.load(tflite_models.endless)
    with pytest.raises(ChildLost) as lost:
        child.infer({"input": models.KNOWN_INPUTS[:1]}, 0.1, 4096)
    assert lost.value.code == "child-timeout"


@pytest.mark.parametrize("seed", range(3))
def test_an_altered_file_ends_in_a_code_or_in_an_answer(child: Child, seed: int) -> None:
    try:
        assert answer(child, altered(seed)).shape == models.KNOWN_LOGITS.shape
    except (Reject, ChildLost) as error:
        assert error.code in CODES
