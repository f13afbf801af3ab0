"""Small real TFLite models, good and hostile, written field by field."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    np.dtype(kind): getattr(schema.TensorType, kind.upper())
    for kind in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
} | {np.dtype(bool): schema.TensorType.BOOL, np.dtype(object): schema.TensorType.STRING}


@dataclass(frozen=True)
class Slot:
    """One tensor; `values` make it a constant, `open` leaves its first axis to the caller."""

    name: str
    dtype: str
    shape: Sequence[int]
    values: np.ndarray | None = None
    scales: Sequence[float] = ()
    zero_point: int = 0
    open: bool = True


@dataclass(frozen=True)
class Step:
    """One operator, by the indices of its tensors. `builtin` None: the custom one of this name."""

    builtin: int | None
    inputs: Sequence[int]
    outputs: Sequence[int]
    custom: str | None = None
    options: tuple[int, object] | None = None


@dataclass
class _Pool:
    buffers: list[schema.BufferT] = field(default_factory=lambda: [schema.BufferT()])

    def add(self, values: np.ndarray | None) -> int:
        if values is None:
            return 0
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.buffers.append(buffer)
        return len(self.buffers) - 1


@dataclass(frozen=True)
class Part:
    """One subgraph, by the indices of its tensors."""

    slots: Sequence[Slot]
    steps: Sequence[Step]
    inputs: Sequence[int]
    outputs: Sequence[int]


def graph(slots: Sequence[Slot], steps: Sequence[Step], inputs: Sequence[int], outputs: Sequence[int], *, signature: bool = False) -> bytes:
    """`signature`: the file names its tensors a second time, with `the_` before."""
    return _file([Part(slots, steps, inputs, outputs)], [_signature(slots, inputs, outputs)] if signature else [])


def _file(parts: Sequence[Part], signatures: Sequence[schema.SignatureDefT]) -> bytes:
    """The first part is the model; the others are for its operators to call."""
    pool = _Pool()
    made = schema.ModelT()
    made.version = 3
    made.operatorCodes, made.subgraphs = [], []
    for part in parts:
        subgraph = schema.SubGraphT()
        subgraph.tensors = [_tensor(slot, pool) for slot in part.slots]
        subgraph.inputs, subgraph.outputs = list(part.inputs), list(part.outputs)
        subgraph.operators = [_operator(len(made.operatorCodes) + at, step) for at, step in enumerate(part.steps)]
        made.operatorCodes += [_code(step) for step in part.steps]
        made.subgraphs.append(subgraph)
    made.buffers, made.signatureDefs = pool.buffers, list(signatures)
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def identity(dtype: str, *, signature: bool = False) -> bytes:
    """output = input, of shape (any, 2): a reshape, the one operator that takes every type."""
    shape = Slot("shape", "int32", [2], np.array([-1, 2], np.int32), open=False)
    options = schema.ReshapeOptionsT()
    options.newShape = [-1, 2]
    step = Step(schema.BuiltinOperator.RESHAPE, [0, 1], [2], options=(schema.BuiltinOptions.ReshapeOptions, options))
    return graph([Slot("input", dtype, [1, 2]), shape, Slot("output", dtype, [1, 2])], [step], [0], [2], signature=signature)


def quantized(scale: float, zero_point: int, *, dtype: str = "int8", scales: Sequence[float] | None = None) -> bytes:
    """output = input, of shape (any, 2), both as whole numbers that stand for real values."""
    shape = Slot("shape", "int32", [2], np.array([-1, 2], np.int32), open=False)
    step = Step(schema.BuiltinOperator.RESHAPE, [0, 1], [2])
    given = Slot("input", dtype, [1, 2], scales=scales or [scale], zero_point=zero_point)
    return graph([given, shape, Slot("output", dtype, [1, 2], scales=[scale], zero_point=zero_point)], [step], [0], [2])


def linear(weight: np.ndarray) -> bytes:
    """logits = input @ weight."""
    slots = [
        Slot("input", "float32", [1, weight.shape[0]]),
        Slot("w", "float32", weight.T.shape, weight.T.astype(np.float32), open=False),
        Slot("logits", "float32", [1, weight.shape[1]]),
    ]
    options = (schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT())
    return graph(slots, [Step(schema.BuiltinOperator.FULLY_CONNECTED, [0, 1, -1], [2], options=options)], [0], [2])


def custom(name: str) -> bytes:
    """An operator that no interpreter of ours has."""
    return graph([Slot("input", "float32", [1, 2]), Slot("logits", "float32", [1, 2])], [Step(None, [0], [1], custom=name)], [0], [1])


def endless() -> bytes:
    """A loop whose condition is always true."""
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    given, told = Slot("input", "float32", [1, 2], open=False), Slot("logits", "float32", [1, 2], open=False)
    yes = Slot("yes", "bool", [1], open=False)
    loop = Step(schema.BuiltinOperator.WHILE, [0], [1], options=(schema.BuiltinOptions.WhileOptions, options))
    more = Step(schema.BuiltinOperator.LESS, [2, 3], [1], options=(schema.BuiltinOptions.LessOptions, schema.LessOptionsT()))
    bounds = [Slot(name, "float32", [1], np.float32([value]), open=False) for name, value in (("zero", 0), ("one", 1))]
    again = Step(schema.BuiltinOperator.LOGISTIC, [0], [1])
    parts = [
        Part([given, told], [loop], [0], [1]),
        Part([given, yes, *bounds], [more], [0], [1]),
        Part([given, told], [again], [0], [1]),
    ]
    return _file(parts, [])


def huge(values: int) -> bytes:
    """A file of a few hundred bytes whose tensor between is as large as that."""
    fill = Slot("between", "float32", [values], open=False)
    dims = Slot("dims", "int32", [1], np.array([values], np.int32), open=False)
    one = Slot("one", "float32", [], np.float32(1), open=False)
    axis = Slot("axis", "int32", [1], np.array([0], np.int32), open=False)
    slots = [
        Slot("input", "float32", [1, 2]),
        dims,
        one,
        fill,
        axis,
        Slot("sum", "float32", [], open=False),
        Slot("logits", "float32", [1, 2]),
    ]
    steps = [
        Step(schema.BuiltinOperator.FILL, [1, 2], [3]),
        Step(schema.BuiltinOperator.SUM, [3, 4], [5], options=(schema.BuiltinOptions.ReducerOptions, schema.ReducerOptionsT())),
        Step(schema.BuiltinOperator.ADD, [0, 5], [6], options=(schema.BuiltinOptions.AddOptions, schema.AddOptionsT())),
    ]
    return graph(slots, steps, [0], [6])


def _tensor(slot: Slot, pool: _Pool) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = slot.name, list(slot.shape), _TYPES[np.dtype(object if slot.dtype == "string" else slot.dtype)]
    tensor.buffer = pool.add(slot.values)
    if slot.open:
        tensor.shapeSignature = [-1, *slot.shape[1:]]
    if slot.scales:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = list(slot.scales)
        tensor.quantization.zeroPoint = [slot.zero_point] * len(slot.scales)
        tensor.quantization.quantizedDimension = 1 if len(slot.scales) > 1 else 0
    return tensor


def _code(step: Step) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CUSTOM if step.builtin is None else step.builtin
    code.deprecatedBuiltinCode = min(code.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    code.customCode, code.version = step.custom, 1
    return code


def _operator(at: int, step: Step) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = at, list(step.inputs), list(step.outputs)
    if step.options is not None:
        operator.builtinOptionsType, operator.builtinOptions = step.options
    return operator


def _signature(slots: Sequence[Slot], inputs: Sequence[int], outputs: Sequence[int]) -> schema.SignatureDefT:
    def named(indices: Sequence[int]) -> list[schema.TensorMapT]:
        found = []
        for index in indices:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"the_{slots[index].name}", index
            found.append(entry)
        return found

    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serve", 0
    made.inputs, made.outputs = named(inputs), named(outputs)
    return made
