"""Static quantization: QDQ, int8 activations and weights."""

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx

from model_tools.errors import Failed
from model_tools.quantize.float_graph import WEIGHTED, FloatGraph


def write_int8(
    graph: FloatGraph, ranges: Mapping[str, tuple[float, float]], *, excluded: Collection[str] = (), per_channel: bool = True
) -> bytes:
    """The model with every layer but those `excluded` in int8; `ranges` are those of the tensors that observing.tensors_of names. Same
    arguments, same bytes. Raises Failed when nothing can be quantized, or the result does not hold together."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    nodes = graph.integers(excluded)
    if not nodes:
        raise Failed("nothing in the graph could be quantized", field="quantize")
    told = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    with silence():
        quantizer = QDQQuantizer(
            model,
            per_channel=per_channel,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, told),
            nodes_to_quantize=[node.name for node in nodes],
            nodes_to_exclude=[],
            op_types_to_quantize=sorted({node.op_type for node in nodes}),
            extra_options={},
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    made = quantizer.model.model
    _leave_sums_exact(made)
    return finish(made)


def finish(model: onnx.ModelProto) -> bytes:
    """The file's bytes, with nothing in them of the tool that made it. Raises Failed for a graph that is not valid."""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "edgefleet", ""
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    data = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise Failed(f"the quantized graph is not valid: {error}", field="quantize") from error
    return data


def _leave_sums_exact(model: onnx.ModelProto) -> None:
    """A product whose result only float nodes read, as logits are, keeps its 32-bit sums: rounding them to 256 steps would tie classes."""
    nodes = model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    dropped: list[onnx.NodeProto] = []
    for back in nodes:
        there = makers.get(back.input[0]) if back.op_type == "DequantizeLinear" else None
        maker = makers.get(there.input[0]) if there is not None and there.op_type == "QuantizeLinear" else None
        if (
            maker is None
            or maker.op_type not in ("Gemm", "MatMul")
            or len(readers[there.input[0]]) > 1
            or len(readers[there.output[0]]) > 1
        ):
            continue
        if any(_computes_in_int8(node, readers) for node in readers.get(back.output[0], ())):
            continue
        maker.output[0] = back.output[0]
        dropped += [there, back]
    for node in dropped:
        nodes.remove(node)
    _drop_unused(model)


def _computes_in_int8(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    return node.op_type in WEIGHTED or any(reader.op_type == "QuantizeLinear" for name in node.output for reader in readers.get(name, ()))


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """The quantizers advise on the root logger; restore what it was."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
