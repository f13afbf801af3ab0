"""The workload of a TFLite file: shapes stand in it."""

from math import prod

import numpy as np

from model_tools.boards.workload import Step, Workload
from model_tools.errors import BadInput

_BY_OUTPUT = ("CONV_2D", "FULLY_CONNECTED")
_DEPTHWISE = "DEPTHWISE_CONV_2D"
_TRANSPOSED = "TRANSPOSE_CONV"
_ITEM_BYTES = {"FLOAT32": 4, "INT32": 4, "INT64": 8, "FLOAT16": 2, "INT16": 2, "FLOAT64": 8, "UINT32": 4}


def workload_of(data: bytes) -> Workload:
    """Of the file's first subgraph. Raises BadInput where LiteRT is not installed, and for a torn file."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise BadInput("TFLite models need the extra `litert` (pip install 'edgefleet[litert]')", field="runtime") from error
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        return _read(schema, model, model.subgraphs[0])
    except (ValueError, IndexError, TypeError, AttributeError, np.exceptions.AxisError) as error:
        raise BadInput(f"the TFLite file is torn: {error}", field="model") from error


def _read(schema, model, graph) -> Workload:
    operators = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    kinds = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    shapes = [[max(1, int(axis)) for axis in (tensor.shape if tensor.shape is not None else ())] for tensor in graph.tensors]
    sizes = [prod(shape) * _ITEM_BYTES.get(kinds.get(tensor.type, ""), 1) for shape, tensor in zip(shapes, graph.tensors, strict=True)]
    fixed = [model.buffers[tensor.buffer].data is not None and tensor.buffer > 0 for tensor in graph.tensors]
    steps = [_step(operators, model.operatorCodes[one.opcodeIndex], one, shapes, fixed) for one in graph.operators]
    return Workload(
        steps=steps,
        inputs=[str(at) for at in graph.inputs],
        outputs=[str(at) for at in graph.outputs],
        activation_bytes={str(at): size for at, size in enumerate(sizes) if not fixed[at]},
        weight_bytes=sum(size for at, size in enumerate(sizes) if fixed[at]),
        unknown=[],
    )


def _step(operators: dict[int, str], code, operator, shapes: list[list[int]], fixed: list[bool]) -> Step:
    name = operators.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
    given = [int(at) for at in operator.inputs if at >= 0]
    told = [int(at) for at in operator.outputs]
    activations = [str(at) for at in given if not fixed[at]]
    return Step(name, activations, [str(at) for at in told], _macs(name, given, told, shapes))


def _macs(name: str, given: list[int], told: list[int], shapes: list[list[int]]) -> int:
    if name in _BY_OUTPUT:
        return prod(shapes[told[0]]) * prod(shapes[given[1]][1:])
    if name == _DEPTHWISE:
        return prod(shapes[told[0]]) * prod(shapes[given[1]][1:3])
    if name == _TRANSPOSED:
        return prod(shapes[given[2]]) * prod(shapes[given[1]][:3])
    return 0


def precision_of(data: bytes) -> str:
    """fp32, fp16 or int8: that of most of its weights' bytes."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    kinds = {
        schema.TensorType.FLOAT32: "fp32",
        schema.TensorType.FLOAT16: "fp16",
        schema.TensorType.INT8: "int8",
        schema.TensorType.UINT8: "int8",
    }
    values = {"fp32": 0, "fp16": 0, "int8": 0}
    for tensor in model.subgraphs[0].tensors:
        held = model.buffers[tensor.buffer].data
        if held is not None and tensor.type in kinds:
            values[kinds[tensor.type]] += prod(int(axis) for axis in (tensor.shape if tensor.shape is not None else ()))
    return max(values, key=lambda kind: values[kind])
