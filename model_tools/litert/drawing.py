"""A TFLite flatbuffer, drawn tensor by tensor and operator by operator (schema.fbs, version 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from model_tools.litert import flatbuffer

_TYPES = {np.dtype(kind): getattr(schema.TensorType, kind.upper()) for kind in ("float32", "int32", "int64", "bool")}
SIGNATURE = "serving_default"
NONE = -1
"""The index of an operand that is left out."""


@dataclass
class Drawing:
    """Tensors and operators in the order in which they were added; equal constants are one tensor."""

    tensors: list[schema.TensorT] = field(default_factory=list)
    operators: list[schema.OperatorT] = field(default_factory=list)
    _buffers: list[schema.BufferT] = field(default_factory=lambda: [schema.BufferT()])
    _codes: list[schema.OperatorCodeT] = field(default_factory=list)
    _constants: dict[tuple[str, tuple[int, ...], bytes], int] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def tensor(self, name: str, shape: Sequence[int], dtype: np.dtype | type = np.float32) -> int:
        """An activation; -1 is an open axis. A name that is taken gets a number."""
        made = schema.TensorT()
        made.name, made.type = self._free(name), _TYPES[np.dtype(dtype)]
        made.shape = [max(1, size) for size in shape]
        if any(size < 0 for size in shape):
            made.shapeSignature = list(shape)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, name: str, values: np.ndarray) -> int:
        values = np.ascontiguousarray(values)
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(key[2], np.uint8)
            self._buffers.append(buffer)
            self._constants[key] = self.tensor(name, values.shape, values.dtype)
            self.tensors[-1].buffer = len(self._buffers) - 1
        return self._constants[key]

    def rename(self, tensor: int, name: str) -> None:
        self.tensors[tensor].name = self._free(name)

    def add(self, operator: str, inputs: Sequence[int], outputs: Sequence[int], **options: object) -> None:
        """`operator` as in schema.BuiltinOperator; `options` are the fields of its options, which the schema calls `<Operator>OptionsT`."""
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self._code(operator), list(inputs), list(outputs)
        kind = _OPTIONS.get(operator, "".join(word.capitalize() for word in operator.split("_")) + "Options")
        if hasattr(schema, f"{kind}T"):
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(schema, f"{kind}T")()
            for name, value in options.items():
                setattr(made.builtinOptions, name, value)
        self.operators.append(made)

    def finish(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> bytes:
        """The file, with one signature that calls inputs and outputs by these names."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = [index for _, index in inputs], [index for _, index in outputs]
        model = schema.ModelT()
        model.version, model.description = 3, "edgefleet"
        model.subgraphs, model.buffers, model.operatorCodes = [graph], self._buffers, self._codes
        model.signatureDefs = [_signature(inputs, outputs)]
        return flatbuffer.encode(model)

    def _free(self, name: str) -> str:
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def _code(self, operator: str) -> int:
        number = getattr(schema.BuiltinOperator, operator)
        for at, code in enumerate(self._codes):
            if code.builtinCode == number:
                return at
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = number, 1
        code.deprecatedBuiltinCode = min(number, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        self._codes.append(code)
        return len(self._codes) - 1


_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
}


def _signature(inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> schema.SignatureDefT:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = SIGNATURE, 0
    made.inputs, made.outputs = _named(inputs), _named(outputs)
    return made


def _named(tensors: Sequence[tuple[str, int]]) -> list[schema.TensorMapT]:
    made = []
    for name, index in tensors:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        made.append(entry)
    return made
