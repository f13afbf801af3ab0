"""Which model files nobody opens at all."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from fleet_contract import graph, limits
from fleet_contract.errors import BadModel
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models


def edited(change: Callable[[ModelProto], object]) -> bytes:
    model = ModelProto.FromString(models.linear())
    change(model)
    return model.SerializeToString()


def in_a_branch() -> bytes:
    """The weights in another file belong to a constant within the branch of an If."""
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    constant = helper.make_node("Constant", [], ["out"], value=tensor)
    leaf = helper.make_graph([constant], "leaf", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])
    node = helper.make_node("If", ["yes"], ["logits"], then_branch=leaf, else_branch=leaf)
    return models.graph([node], {"yes": np.bool_(True)})


def sparse_weight(model: ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.data_location = TensorProto.EXTERNAL


def local_function(model: ModelProto) -> None:
    function = model.functions.add(name="f", domain="ai.onnx")
    function.node.add(op_type="Open", domain="com.example")


def compiled_elsewhere(model: ModelProto) -> None:
    model.graph.node.add(op_type="EPContext", domain="com.microsoft")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(models.linear(), id="one layer"),
        pytest.param(models.flat_image(), id="pictures"),
        pytest.param(models.endless(), id="a loop, endless or not"),
        pytest.param(bad_models.nested(limits.MAX_MODEL_DEPTH_COUNT), id="graphs as deep as allowed"),
        pytest.param(edited(lambda m: m.graph.initializer[0].dims.__setitem__(slice(None), [0, 2**40])), id="a weight without values"),
        pytest.param(edited(lambda m: m.graph.node[0].__setattr__("domain", "com.microsoft")), id="an operator of the engine's"),
    ],
)
def test_what_may_be_opened_in_a_sandbox(model: bytes) -> None:
    graph.check(model)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        pytest.param(models.external_data("weights.bin"), "data_location", id="weights in a file beside it"),
        pytest.param(models.external_data("../weights.bin"), "data_location", id="weights in a file outside"),
        pytest.param(models.external_data("/etc/hostname"), "data_location", id="weights in a file of the system"),
        pytest.param(models.external_data("/proc/self/environ"), "data_location", id="weights in a process"),
        pytest.param(in_a_branch(), "data_location", id="weights elsewhere, hidden in a branch"),
        pytest.param(edited(sparse_weight), "data_location", id="weights elsewhere, hidden in a sparse tensor"),
        pytest.param(models.foreign_operator(), "domain", id="operator of an unknown domain"),
        pytest.param(edited(local_function), "domain", id="the same in a local function"),
        pytest.param(edited(compiled_elsewhere), "op_type", id="an operator that reads a file"),
        pytest.param(edited(lambda m: m.training_info.add()), "training_info", id="training graph"),
        pytest.param(bad_models.nested(limits.MAX_MODEL_DEPTH_COUNT + 1), "graph", id="graphs too deep"),
        pytest.param(bad_models.huge_dims(), "dims", id="a weight that claims more than it holds"),
        pytest.param(edited(lambda m: m.graph.initializer[0].dims.append(-1)), "dims", id="a negative dimension"),
        pytest.param(edited(lambda m: m.graph.initializer[0].dims.extend([1] * limits.MAX_TENSOR_RANK)), "dims", id="too many dimensions"),
        pytest.param(b"", "model", id="nothing"),
        pytest.param(b"\x00 no model", "model", id="not a protobuf"),
        pytest.param(models.linear()[:-5], "model", id="cut short"),
        pytest.param(b"\x0b\x0b\x0b", "model", id="protobuf groups"),
        pytest.param(b"\x08" + b"\xff" * 20, "model", id="a number without end"),
        pytest.param(b"\x08\x08", "graph", id="a model without a graph"),
        pytest.param(b"\x08\x01" * (limits.MAX_MODEL_FIELDS_COUNT + 1), "model", id="more fields than a model has"),
    ],
)
def test_what_nobody_opens(model: bytes, field: str) -> None:
    with pytest.raises(BadModel) as refused:
        graph.check(model)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x0a\x00", id="nodes"),
        pytest.param(b"\x0a\x02\x2a\x00", id="nodes with attributes"),
        pytest.param(b"\x2a\x00", id="weights"),
        pytest.param(b"\x2a\x06\x0a\x04\x01\x01\x01\x01", id="dimensions"),
    ],
)
def test_many_small_parts_take_time_but_no_memory(body: bytes) -> None:
    """They are walked in the supervisor, on a board with little memory."""
    graph_bytes = body * 50_000
    model = b"\x3a" + _varint(len(graph_bytes)) + graph_bytes
    tracemalloc.start()
    graph.check(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * limits.KIB


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + _varint(number >> 7) if number > 0x7F else bytes([number])


@given(st.data())
def test_spoilt_bytes_are_a_model_or_a_typed_error(data: st.DataObject) -> None:
    model = bytearray(data.draw(st.sampled_from([models.linear(), models.endless(), bad_models.nested(5)])))
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph.check(bytes(model))
    except BadModel as error:
        assert error.field
