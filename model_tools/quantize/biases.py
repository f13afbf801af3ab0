"""Biases of int8 layers as ONNX Runtime's kernels take them: int32, in units of input scale times weight scale."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

_BIAS = 2
_LARGEST = 2**31 - 1


def round_biases(model: onnx.ModelProto) -> None:
    """In place: float32 biases of Conv and Gemm whose input and weight are dequantized. With others the layer would be computed in float."""
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    at = 0
    while at < len(graph.node):
        node = graph.node[at]
        if node.op_type in ("Conv", "Gemm") and len(node.input) > _BIAS and node.input[_BIAS] in values:
            back = _rounded(node, values, makers, graph)
            if back is not None:
                graph.node.insert(at, back)
                at += 1
        at += 1
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _rounded(node: onnx.NodeProto, values: dict, makers: dict, graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The node that gives the bias back, None where this layer is not int8 or its bias is too large for it."""
    scales = [values.get(makers[name].input[1]) for name in node.input[:_BIAS] if name in makers]
    if len(scales) < _BIAS or None in scales:
        return None
    bias = numpy_helper.to_array(values[node.input[_BIAS]]).astype(np.float64)
    of_input, of_weight = (numpy_helper.to_array(scale).astype(np.float64) for scale in scales)
    unit = np.broadcast_to(of_input * of_weight, bias.shape).astype(np.float32)
    whole = np.rint(bias / unit)
    if not np.all(np.abs(whole) <= _LARGEST):
        return None
    name = f"{node.output[0]}_bias"
    graph.initializer.append(numpy_helper.from_array(whole.astype(np.int32), f"{name}_int32"))
    graph.initializer.append(numpy_helper.from_array(unit, f"{name}_scale"))
    node.input[_BIAS] = name
    return helper.make_node("DequantizeLinear", [f"{name}_int32", f"{name}_scale"], [name], name=name, axis=0)
