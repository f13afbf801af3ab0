"""Operators that fold axes away."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from model_tools.errors import BadInput
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import Node
from model_tools.litert.values import Value, last_axis


def _reduce(operator: str, sheet: Sheet, node: Node) -> None:
    rank = len(sheet.shape(node.inputs[0]))
    given = sheet.optional(node, 1)
    axes = node.attributes.get("axes") if given is None else given.tolist()
    _fold(operator, sheet, node, range(rank) if not axes else [axis % rank for axis in axes], bool(node.attributes.get("keepdims", 1)))


def _fold_sides(operator: str, sheet: Sheet, node: Node) -> None:
    _fold(operator, sheet, node, range(2, len(sheet.shape(node.inputs[0]))), True)


def _fold(operator: str, sheet: Sheet, node: Node, axes: Sequence[int], kept: bool) -> None:
    value, name = sheet.value(node.inputs[0]), node.outputs[0]
    rank = len(value.shape)
    if 0 in axes:
        raise BadInput(f"{node.operator} over the rows cannot become TFLite", field=node.operator)
    if value.last and not kept and sorted(axes) not in ([1], list(range(2, rank)), list(range(1, rank))):
        value = sheet.layouts.to_plain(value)
    places = [last_axis(axis, rank) for axis in axes] if value.last else list(axes)
    if value.last and rank == 3 and not kept:
        places.append(1)  # the height that a line does not have
    operand = sheet.drawing.constant("axes", np.array(sorted(places), np.int32))
    sheet.keep(name, sheet.draw(operator, [value.index, operand], name, last=value.last and kept, keepDims=kept))


def _normalise(sheet: Sheet, node: Node) -> None:
    """A layer normalisation: over the last axes, from `axis` on (Ba et al. 2016, arXiv 1607.06450)."""
    value, name = sheet.value(node.inputs[0], last=False), node.outputs[0]
    rank = len(value.shape)
    axes = list(range(int(node.attributes.get("axis", -1)) % rank, rank))
    over = sheet.drawing.constant("axes", np.array(axes, np.int32))
    narrow = [1 if axis in axes else size for axis, size in enumerate(value.shape)]
    least = sheet.drawing.constant("epsilon", np.float32(node.attributes.get("epsilon", 1e-5)))

    def step(operator: str, *operands: int, shape: Sequence[int] = value.shape) -> int:
        options = {"keepDims": True} if operator == "MEAN" else {}
        return sheet.draw(operator, operands, name, shape=shape, **options).index

    mean = step("MEAN", value.index, over, shape=narrow)
    variance = step("MEAN", step("SQUARED_DIFFERENCE", value.index, mean), over, shape=narrow)
    inverse = step("RSQRT", step("ADD", variance, least, shape=narrow), shape=narrow)
    made = step("MUL", step("SUB", value.index, mean), inverse)
    for operator, operand in zip(("MUL", "ADD"), node.inputs[1:], strict=False):
        made = step(operator, made, sheet.drawing.constant(operand, sheet.constant(operand).astype(np.float32)))
    sheet.keep(name, Value(made, value.shape))
    sheet.drawing.rename(made, name)


OPERATORS: Mapping[str, Callable[[Sheet, Node], None]] = {
    "ReduceMean": partial(_reduce, "MEAN"),
    "ReduceSum": partial(_reduce, "SUM"),
    "ReduceMax": partial(_reduce, "REDUCE_MAX"),
    "ReduceMin": partial(_reduce, "REDUCE_MIN"),
    "LayerNormalization": _normalise,
    "GlobalAveragePool": partial(_fold_sides, "MEAN"),
    "GlobalMaxPool": partial(_fold_sides, "REDUCE_MAX"),
}
