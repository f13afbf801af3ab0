"""Smaller files that compute in float, or find their ranges as inputs come."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_tools.errors import Failed
from model_tools.quantize.float_graph import WEIGHTED, FloatGraph
from model_tools.quantize.static import finish, silence

_MOST = 127.0
_HALF_MOST = 65_504.0


def write_weight_only(graph: FloatGraph) -> bytes:
    """Every layer's weights as int8 with a scale an output channel, multiplied out again by DequantizeLinear: a quarter of the size, float sums.
    Raises Failed where there are no layers."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    stored: dict[str, str] = {}
    before: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in WEIGHTED and node.input[1] in graph.weights:
            name = node.input[1]
            if name not in stored:
                stored[name] = f"{name}_restored"
                before.append(_restored(model, node, graph.weights[name]))
            node.input[1] = stored[name]
    if not stored:
        raise Failed("the model has no layers with weights of its own", field="quantize")
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in stored]:
        model.graph.initializer.remove(tensor)
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return finish(model)


def _restored(model: onnx.ModelProto, node: onnx.NodeProto, weight: np.ndarray) -> onnx.NodeProto:
    """The node that makes this layer's weights; its int8 values and scales go into the model."""
    name = node.input[1]
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    axis = 0 if node.op_type == "Conv" or transposed else weight.ndim - 1
    peaks = np.abs(weight).max(axis=tuple(at for at in range(weight.ndim) if at != axis), keepdims=True)
    scale = np.where(peaks > 0, peaks / _MOST, 1.0).astype(np.float32)
    values = np.rint(weight / scale).astype(np.int8)
    parts = (values, scale.ravel(), np.zeros(scale.size, np.int8))
    names = [f"{name}_{part}" for part in ("int8", "scale", "zero")]
    model.graph.initializer.extend(numpy_helper.from_array(part, called) for part, called in zip(parts, names, strict=True))
    return helper.make_node("DequantizeLinear", names, [f"{name}_restored"], name=f"{name}_restore", axis=axis)


def write_dynamic(graph: FloatGraph) -> bytes:
    """int8 weights per channel, activations quantized by the range of each input. Raises Failed where there is nothing to quantize."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if all(node.op_type == "Conv" for node in graph.layers):  # ConvInteger is slower than float, and has no scale per channel
        raise Failed("dynamic quantization is for matrix products, and the model has none", field="quantize")
    with tempfile.TemporaryDirectory() as folder, silence():
        source, target = Path(folder, "float.onnx"), Path(folder, "dynamic.onnx")
        source.write_bytes(graph.model.SerializeToString())  # a Gemm is quantized in models that come from a file alone
        quantize_dynamic(source, target, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
        return finish(onnx.load(target))


def write_half(graph: FloatGraph) -> bytes:
    """float16 from the first layer to the last, inputs and outputs float32; what lies before and behind, raw units that may be beyond 65504, stays
    float32. Raises Failed for weights beyond float16's range."""
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    halves = {node.name for node in _between(graph)}
    for name, values in graph.weights.items():
        read = {node.name for node in graph.consumers.get(name, ())} & halves
        if read and values.dtype == np.float32 and np.abs(values).max(initial=0) > _HALF_MOST:
            raise Failed(f"weights {name!r} reach beyond float16", field="quantize", limit=_HALF_MOST)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    floats = [node.name for node in model.graph.node if node.name not in halves]
    with silence():
        made = ONNXModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=floats))
    _skip_detours(made.model)
    made.topological_sort()
    return finish(made.model)


def _between(graph: FloatGraph) -> list[onnx.NodeProto]:
    """The layers, and what leads from one to another."""
    layers = {node.name for node in graph.layers}
    behind = {name for node in graph.layers for name in node.output}
    for node in graph.model.graph.node:
        if any(name in behind for name in node.input):
            behind.update(node.output)
    wanted = set(layers)
    for node in reversed(graph.model.graph.node):
        followers = {other.name for name in node.output for other in graph.consumers.get(name, ())}
        if followers & wanted and any(name in behind for name in node.input):
            wanted.add(node.name)
    return [node for node in graph.model.graph.node if node.name in wanted]


def _skip_detours(model: onnx.ModelProto) -> None:
    """The converter casts a float32 value to float16 and back where it enters what stays float32: that would round it, or make it infinite."""
    nodes = model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    outputs = {value.name for value in model.graph.output}
    direct: dict[str, str] = {}
    for back in nodes:
        there = makers.get(back.input[0]) if _casts_to(back, TensorProto.FLOAT) else None
        if there is not None and _casts_to(there, TensorProto.FLOAT16) and back.output[0] not in outputs:
            direct[back.output[0]] = there.input[0]
    for node in nodes:
        for at, name in enumerate(node.input):
            node.input[at] = direct.get(name, name)
    read = {name for node in nodes for name in node.input} | outputs
    while unread := [node for node in nodes if node.op_type == "Cast" and node.output[0] not in read]:
        for node in unread:
            nodes.remove(node)
        read = {name for node in nodes for name in node.input} | outputs


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(attribute.name == "to" and attribute.i == kind for attribute in node.attribute)
