"""The workload of an ONNX file, by shape inference for one row."""

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx

from model_tools.boards.workload import Step, Workload
from model_tools.errors import BadInput

_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
_QUANTIZED_WEIGHT_AT = 3
"""Of QLinearConv and QLinearMatMul; of the others the weight is the second input."""


def workload_of(data: bytes) -> Workload:
    """Open axes count as 1. Raises BadInput for a file whose shapes contradict one another."""
    try:
        model = onnx.load_from_string(data)
        for value in (*model.graph.input, *model.graph.output):
            _close(value)
        del model.graph.value_info[:]
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise BadInput(f"the model's shapes do not hold together: {error}", field="model") from error
    weights = {tensor.name: _weight_bytes(tensor) for tensor in graph.initializer}
    shapes = {tensor.name: [*tensor.dims] for tensor in graph.initializer}
    sizes: dict[str, int] = {}
    vague = set()
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if value.name not in weights and kind.HasField("shape"):
            shapes[value.name] = [max(1, axis.dim_value) for axis in kind.shape.dim]
            sizes[value.name] = prod(shapes[value.name]) * _item_bytes(kind.elem_type)
            vague |= {value.name for axis in kind.shape.dim if not axis.HasField("dim_value")}
    constants = [node for node in _nodes(graph) if node.op_type == "Constant"]
    constant = {node.output[0] for node in constants}
    steps = [_step(node, shapes) for node in _nodes(graph) if node.op_type != "Constant"]
    made = [name for step in steps for name in step.outputs if name]
    return Workload(
        steps=steps,
        inputs=[value.name for value in graph.input if value.name not in weights],
        outputs=[value.name for value in graph.output],
        activation_bytes={name: size for name, size in sizes.items() if name not in constant},
        weight_bytes=sum(weights.values()) + sum(map(_constant_bytes, constants)),
        unknown=[name for name in made if name not in sizes or name in vague],
    )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Also those of the branches and loops within, each once."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _constant_bytes(node: onnx.NodeProto) -> int:
    return sum(_weight_bytes(attribute.t) for attribute in node.attribute if attribute.type == onnx.AttributeProto.TENSOR)


def _close(value: onnx.ValueInfoProto) -> None:
    for axis in value.type.tensor_type.shape.dim:
        if not axis.dim_value:
            axis.dim_value = 1


def _step(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> Step:
    return Step(node.op_type, [name for name in node.input if name], [name for name in node.output if name], _macs(node, shapes))


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    at = _QUANTIZED_WEIGHT_AT if node.op_type.startswith("QLinear") else 1
    told, weight = shapes.get(node.output[0], []), shapes.get(node.input[at], []) if len(node.input) > at else []
    if not told or not weight:
        return 0
    if node.op_type == "ConvTranspose":
        return prod(shapes.get(node.input[0], [])) * prod(weight[1:])
    if node.op_type in _CONVOLUTIONS:
        return prod(told) * prod(weight[1:])
    if node.op_type in _PRODUCTS:
        summed = shapes.get(node.input[0], [1])[-1]
        return prod(told) * summed
    return 0


def _weight_bytes(tensor: onnx.TensorProto) -> int:
    return prod(tensor.dims) * _item_bytes(tensor.data_type)


def _item_bytes(kind: int) -> int:
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize
    except (KeyError, TypeError):
        return 1
