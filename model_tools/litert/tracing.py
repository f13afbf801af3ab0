"""What an ONNX graph is, found by running it: the shape of every tensor for one and for two rows, and what does not depend on the input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from fleet_contract import graph as contract_graph
from fleet_contract.errors import BadModel
from model_tools.errors import BadInput
from model_tools.graphs import OnnxGraph

ANY = -1
_PROBE = 0.5


@dataclass(frozen=True)
class Node:
    """One operator; `inputs` holds "" where one is left out."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class Trace:
    """`nodes` are those that depend on the input, in order. `shapes` tell ANY for an axis that grows with the rows. `constants` are all else."""

    nodes: Sequence[Node]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, np.ndarray]
    inputs: Sequence[str]
    outputs: Sequence[str]

    def uses(self, name: str) -> int:
        """How many operators and outputs of the graph read it."""
        return sum(node.inputs.count(name) for node in self.nodes) + list(self.outputs).count(name)


def trace(data: bytes) -> Trace:
    """Raises BadInput for what does not load or run, takes more than one input, or holds graphs within its operators."""
    model = _opened(data)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise BadInput("a model with one float32 input can become TFLite", field="model.inputs", limit=1)
    nodes = [_node(node) for node in model.graph.node]
    moving = _moving(nodes, inputs[0].name)
    one, two = (_run(model, nodes, inputs[0], rows) for rows in (1, 2))
    constants = {**held, **{name: values for name, values in one.items() if name not in moving}}
    return Trace(
        [node for node in nodes if any(name in moving for name in node.inputs)],
        {name: _shape(one[name].shape, two[name].shape) for name in moving},
        constants,
        [inputs[0].name],
        [value.name for value in model.graph.output],
    )


def _opened(data: bytes) -> onnx.ModelProto:
    try:
        contract_graph.check(data)
        return onnx.load_from_string(data)
    except (BadModel, DecodeError) as error:
        raise BadInput(f"the model is refused: {error}", field="model") from error


def _node(node: onnx.NodeProto) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise BadInput(f"operator {node.op_type!r} of {node.domain!r} cannot become TFLite", field=node.op_type)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if any(isinstance(value, onnx.GraphProto) for value in attributes.values()):
        raise BadInput(f"operator {node.op_type!r}, with a graph inside, cannot become TFLite", field=node.op_type)
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes)


def _moving(nodes: Sequence[Node], given: str) -> set[str]:
    """Whatever follows from the input. Its shape does too: those who need one know it from the trace."""
    moving = {given}
    for node in nodes:
        if any(name in moving for name in node.inputs):
            moving |= {name for name in node.outputs if name}
    return moving


def _run(model: onnx.ModelProto, nodes: Sequence[Node], given: onnx.ValueInfoProto, rows: int) -> dict[str, np.ndarray]:
    """Every tensor of the graph, for so many rows; a graph with fixed rows gets these."""
    axes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in given.type.tensor_type.shape.dim]
    if not axes or any(size == 0 for size in axes[1:]):
        raise BadInput(f"input {given.name!r} has open axes besides the first", field="model.inputs")
    fed = np.full([axes[0] or rows, *axes[1:]], _PROBE, np.float32)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    shown = {value.name for value in opened.graph.output}
    names = [name for node in nodes for name in node.outputs if name]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    told = OnnxGraph(opened.SerializeToString(), fused=False).run({given.name: fed}, names)
    return {given.name: fed, **dict(zip(names, told, strict=True))}


def _shape(one: Sequence[int], two: Sequence[int]) -> tuple[int, ...]:
    return tuple(a if a == b else ANY for a, b in zip(one, two, strict=True))
