"""Whether devices should take int8 first, by rule and not by clock, so that a bundle's bytes do not depend on how busy a machine was."""

import math

from model_tools.quantize.float_graph import FloatGraph, open_float

_LEAST_PRODUCTS = 200_000
"""A row. Below, ONNX Runtime answers in 20 us, of which rounding in and out of int8 takes more than int8 saves (x86-64 with VNNI: even at 150,000,
a quarter faster at 270,000)."""
_ROUNDING = 1e-9


def prefers_int8(fp32: bytes, quality_drop: float, budget: float) -> bool:
    """Where int8 costs no more of quality than `budget` and the model is large enough to gain by it. Raises BadInput for a model that does not open."""
    return quality_drop <= budget + _ROUNDING and products(open_float(fp32)) >= _LEAST_PRODUCTS


def products(graph: FloatGraph) -> int:
    """Multiplications of weights for one row."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.model.graph.value_info, *graph.model.graph.output)}
    total = 0
    for node in graph.layers:
        made = [axis.dim_value or 1 for axis in shapes.get(node.output[0], ())][1:]
        places = math.prod(made[1:] if node.op_type == "Conv" else made[:-1])
        total += graph.weights[node.input[1]].size * places
    return total
