"""Which operators compute in whole numbers: those between layers with weights, and those that only move values there."""

from collections.abc import Collection

from ai_edge_litert import schema_py_generated as schema

from model_tools.litert import flatbuffer

_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
_BETWEEN = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "HARD_SWISH",
    "LOGISTIC",
    "MAX_POOL_2D",
    "MEAN",
    "MIRROR_PAD",
    "MUL",
    "PAD",
    "RELU",
    "RESHAPE",
    "SLICE",
    "STRIDED_SLICE",
    "SUB",
    "TANH",
    "TRANSPOSE",
}
_MOVING = {"MIRROR_PAD", "PAD", "RESHAPE", "TRANSPOSE"}


def whole_numbers(model: schema.ModelT, excluded: Collection[str] = ()) -> list[str]:
    """Operators of the first graph, by the names of their outputs, in order. What an input is made of before the first layer with weights stays float:
    raw units of different sizes would share a scale, whose steps keep the largest alone. So does what the last such layer's result
    becomes, the error of a reconstruction or a target in its own unit, and sums and products of what is float."""
    graph = model.subgraphs[0]
    kinds = [flatbuffer.operator_name(model, operator) for operator in graph.operators]
    behind = _reached(graph, kinds, forwards=True)
    before = _reached(graph, kinds, forwards=False)
    chosen, whole = [], _without_operator(graph)
    for at, (operator, kind) in enumerate(zip(graph.operators, kinds, strict=True)):
        fed = all(int(tensor) in whole for tensor in operator.inputs if tensor >= 0)
        between = at in before and (kind in _MOVING or (kind in _BETWEEN and at in behind and fed))
        name = flatbuffer.name(graph.tensors[int(operator.outputs[0])])
        if (kind in _WEIGHTED or between) and name not in excluded:
            chosen.append(name)
            whole |= {int(tensor) for tensor in operator.outputs}
    return chosen


def _without_operator(graph: schema.SubGraphT) -> set[int]:
    """Positions of the constants."""
    written = {int(tensor) for operator in graph.operators for tensor in operator.outputs}
    return set(range(len(graph.tensors))) - written - {int(tensor) for tensor in graph.inputs}


def _reached(graph: schema.SubGraphT, kinds: list[str], *, forwards: bool) -> set[int]:
    """Positions of the operators that a layer with weights comes before (or, backwards, behind)."""
    touched: set[int] = set()
    found: set[int] = set()
    order = range(len(kinds)) if forwards else range(len(kinds))[::-1]
    for at in order:
        operator = graph.operators[at]
        read, written = (operator.inputs, operator.outputs) if forwards else (operator.outputs, operator.inputs)
        reached = any(int(tensor) in touched for tensor in read)
        if reached:
            found.add(at)
        if reached or kinds[at] in _WEIGHTED:
            touched |= {int(tensor) for tensor in written if tensor >= 0}
    return found
