"""Any TFLite file as a float32 one that ai-edge-quantizer reads rightly."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from model_tools.errors import BadInput
from model_tools.litert import flatbuffer

_WHOLE = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16, schema.TensorType.INT32)


def float_form(data: bytes, *, thaw: bool = False) -> bytes:
    """The same graph in float32: weights that are stored as whole numbers become what they stand for, and every operator has its code where
    the quantizer looks. With `thaw` also a graph that computes in whole numbers: what it would answer without rounding between its layers.

    Raises BadInput for what is no TFLite file, and for one that computes in whole numbers already or, with `thaw`, changes scales by operators.
    """
    model = flatbuffer.decode(data)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        held = flatbuffer.values(model, tensor)
        if _scales(tensor) is not None and tensor.type in _WHOLE:
            if held is None and not thaw:
                raise BadInput(f"tensor {flatbuffer.name(tensor)!r} is quantized already: give the float model", field="model")
            _unfold(model, tensor, held)
        if tensor.type == schema.TensorType.FLOAT32:
            tensor.quantization = None
    _refuse_between(model, graph)
    _name_all(graph)
    return flatbuffer.encode(model)


def _refuse_between(model: schema.ModelT, graph: schema.SubGraphT) -> None:
    """Operators that change a scale have nothing to do in float32, and no kernels."""
    for operator in graph.operators:
        kind = flatbuffer.operator_name(model, operator)
        if kind in ("QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"):
            raise BadInput(f"the model holds {kind}: give the float model", field="model")


def _scales(tensor: schema.TensorT) -> np.ndarray | None:
    told = tensor.quantization
    return None if told is None or told.scale is None or not len(told.scale) else np.asarray(told.scale, np.float32)


def _unfold(model: schema.ModelT, tensor: schema.TensorT, held: np.ndarray | None) -> None:
    tensor.type = schema.TensorType.FLOAT32
    if held is None:
        return
    shape = [1] * held.ndim
    scales, zeros = _scales(tensor), np.asarray(tensor.quantization.zeroPoint, np.float32)
    if len(scales) > 1:
        shape[tensor.quantization.quantizedDimension] = -1
    real = (held.astype(np.float32) - zeros.reshape(shape)) * scales.reshape(shape)
    model.buffers[tensor.buffer].data = np.frombuffer(real.astype(np.float32).tobytes(), np.uint8)


def _name_all(graph: schema.SubGraphT) -> None:
    """The quantizer knows tensors by name alone."""
    taken: set[str] = set()
    for at, tensor in enumerate(graph.tensors):
        name = flatbuffer.name(tensor) or "tensor"
        tensor.name = name if name not in taken else f"{name}_{at}"
        taken.add(tensor.name)
