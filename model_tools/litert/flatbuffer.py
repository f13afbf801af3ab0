"""The bytes of a TFLite file, and what they say as a tree of the schema's own objects."""

import struct
from typing import Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fleet_contract import limits
from model_tools.errors import BadInput

_IDENTIFIER = b"TFL3"
_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def decode(data: bytes) -> schema.ModelT:
    """The first graph alone is looked at by those who ask. Raises BadInput for what is no TFLite file, or a torn one."""
    if len(data) < 8 or data[4:8] != _IDENTIFIER:
        raise BadInput("this is not a TFLite file: it has no TFL3 at byte 4", field="model")
    if len(data) > limits.MAX_BUNDLE_BYTES:
        raise BadInput(f"a model of {len(data)} bytes", field="model", limit=limits.MAX_BUNDLE_BYTES)
    try:
        model = schema.ModelT.InitFromPackedBuf(data)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise BadInput(f"the TFLite file is torn: {error}", field="model") from error
    if not model.subgraphs or not model.operatorCodes or not model.buffers:
        raise BadInput("the TFLite file holds no graph", field="model")
    if not all(_holds_together(model, graph) for graph in model.subgraphs):
        raise BadInput("the TFLite file is torn: it names tensors, buffers or operators that it has not", field="model")
    for code in model.operatorCodes:
        # files from before 2021 have the old field alone, and newer readers take its absence in the new one for ADD
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    return model


def _holds_together(model: schema.ModelT, graph: schema.SubGraphT) -> bool:
    tensors, operators = graph.tensors or [], graph.operators or []
    if graph.inputs is None or graph.outputs is None or any(o.inputs is None or o.outputs is None for o in operators):
        return False
    named = [*graph.inputs, *graph.outputs, *(index for o in operators for index in (*o.inputs, *o.outputs))]
    return (
        bool(operators)
        and all(-1 <= index < len(tensors) for index in named)
        and all(0 <= o.opcodeIndex < len(model.operatorCodes) for o in operators)
        and all(0 <= tensor.buffer < len(model.buffers) for tensor in tensors)
    )


def encode(model: schema.ModelT) -> bytes:
    """Same tree, same bytes."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def values(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray | None:
    """What a constant holds; None for an activation or a type that we do not read. Raises BadInput where the bytes are not that many."""
    held = model.buffers[tensor.buffer].data
    if held is None or not len(held) or tensor.type not in _TYPES:
        return None
    shape = [] if tensor.shape is None else list(tensor.shape)
    try:
        return np.frombuffer(bytes(held), _TYPES[tensor.type]).reshape(shape)
    except ValueError as error:
        raise BadInput(f"the constant {name(tensor)!r} has not the bytes of its shape {shape}", field="model") from error


def precision(model: schema.ModelT) -> Literal["fp32", "fp16", "int8"]:
    """The smallest type that a tensor of the first graph has."""
    held = {tensor.type for tensor in model.subgraphs[0].tensors}
    if held & {schema.TensorType.INT8, schema.TensorType.UINT8}:
        return "int8"
    return "fp16" if schema.TensorType.FLOAT16 in held else "fp32"


def name(tensor: schema.TensorT) -> str:
    return tensor.name.decode("utf-8", "replace") if isinstance(tensor.name, bytes) else tensor.name or ""


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """As in schema.BuiltinOperator, or CUSTOM."""
    return _NAMES.get(model.operatorCodes[operator.opcodeIndex].builtinCode, "unknown")
