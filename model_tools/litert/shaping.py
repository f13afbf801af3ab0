"""Operators that move values and change none."""

from collections.abc import Callable, Mapping

import numpy as np

from model_tools.errors import BadInput
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import Node
from model_tools.litert.values import ANY, Value, last_axis, last_shape

_TO_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
_TO_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}


def _reshape(sheet: Sheet, node: Node) -> None:
    value, shape = sheet.value(node.inputs[0]), sheet.shape(node.outputs[0])
    if value.shape != shape or value.last:
        value = _squeezed(sheet, value, shape) or sheet.layouts.reshape(sheet.layouts.to_plain(value), shape)
    sheet.keep(node.outputs[0], value)


def _squeezed(sheet: Sheet, value: Value, shape: tuple[int, ...]) -> Value | None:
    """What needs no turning: (rows, channels) of a picture of one point, a line as a picture of height 1 and back."""
    if value.last and len(shape) in (3, 4) and last_shape(shape) == value.lying:
        return Value(value.index, shape, last=True, positive=value.positive)
    if not value.last or any(side != 1 for side in value.shape[2:]) or shape != value.shape[:2]:
        return None
    return sheet.layouts.reshape(Value(value.index, value.lying), shape)


def _transpose(sheet: Sheet, node: Node) -> None:
    value, name = sheet.value(node.inputs[0]), node.outputs[0]
    rank = len(value.shape)
    order = tuple(node.attributes.get("perm", range(rank)[::-1]))
    if not value.last and order == _TO_FIRST.get(rank):
        lying = (value.shape[0], 1, *value.shape[1:]) if rank == 3 else value.shape
        made = sheet.layouts.reshape(value, lying)
        sheet.keep(name, Value(made.index, sheet.shape(name), last=True))
    elif value.last and order == _TO_LAST.get(rank):
        made = sheet.layouts.reshape(Value(value.index, value.lying), sheet.shape(name))
        sheet.keep(name, Value(made.index, sheet.shape(name)))
    else:
        sheet.keep(name, sheet.layouts.transpose(sheet.layouts.to_plain(value), order))


def _join(sheet: Sheet, node: Node) -> None:
    operands, last, rank = sheet.together(node.inputs)
    axis = int(node.attributes["axis"]) % rank
    if axis == 0:
        raise BadInput("Concat of rows cannot become TFLite", field=node.operator)
    at = last_axis(axis, rank) if last else axis
    sheet.keep(node.outputs[0], sheet.draw("CONCATENATION", operands, node.outputs[0], last=last, axis=at))


def _pad(sheet: Sheet, node: Node) -> None:
    value, name = sheet.value(node.inputs[0], last=False), node.outputs[0]
    given = sheet.optional(node, 1)
    pads = node.attributes.get("pads") if given is None else given.tolist()
    rank = len(value.shape)
    mode = node.attributes.get("mode", b"constant")
    fill = sheet.optional(node, 2)
    if mode not in (b"constant", b"reflect") or len(pads) != 2 * rank or min(pads) < 0 or (fill is not None and float(fill.ravel()[0])):
        raise BadInput("Pad with other than zeros or reflected values cannot become TFLite", field=node.operator)
    border = sheet.drawing.constant("border", np.array([pads[:rank], pads[rank:]], np.int32).T)
    operator, options = ("PAD", {}) if mode == b"constant" else ("MIRROR_PAD", {"mode": 0})
    sheet.keep(name, sheet.draw(operator, [value.index, border], name, **options))


def _slice(sheet: Sheet, node: Node) -> None:
    value, name = sheet.value(node.inputs[0], last=False), node.outputs[0]
    rank = len(value.shape)
    starts, ends, axes, steps = (_told(sheet, node, at, name) for at, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    axes = range(len(starts)) if axes is None else [axis % rank for axis in axes]
    begin, end, step = [0] * rank, [max(0, size) for size in value.shape], [1] * rank
    for place, axis in enumerate(axes):
        jump = 1 if steps is None else steps[place]
        if axis == 0 or jump < 1:
            raise BadInput("a Slice of rows or backwards cannot become TFLite", field=node.operator)
        begin[axis], end[axis], _ = slice(starts[place], ends[place]).indices(value.shape[axis])
        step[axis] = jump
    parts = [sheet.drawing.constant(what, np.array(held, np.int32)) for what, held in (("begin", begin), ("end", end), ("step", step))]
    # the first bit: the rows are all of them, however many
    sheet.keep(name, sheet.draw("STRIDED_SLICE", [value.index, *parts], name, beginMask=1, endMask=1))


def _told(sheet: Sheet, node: Node, at: int, name: str) -> list[int] | None:
    """An operand or, before opset 10, an attribute."""
    held = sheet.optional(node, at)
    return node.attributes.get(name) if held is None else held.tolist()


def _gather(sheet: Sheet, node: Node) -> None:
    value, name = sheet.value(node.inputs[0], last=False), node.outputs[0]
    axis = int(node.attributes.get("axis", 0)) % len(value.shape)
    indices = sheet.constant(node.inputs[1])
    if axis == 0:
        raise BadInput("a Gather of rows cannot become TFLite", field=node.operator)
    wrapped = np.where(indices < 0, indices + value.shape[axis], indices).astype(np.int32)
    operand = sheet.drawing.constant("indices", wrapped)
    sheet.keep(name, sheet.draw("GATHER", [value.index, operand], name, axis=axis))


def _split(sheet: Sheet, node: Node) -> None:
    value = sheet.value(node.inputs[0], last=False)
    axis = int(node.attributes.get("axis", 0)) % len(value.shape)
    if axis == 0:
        raise BadInput("a Split of rows cannot become TFLite", field=node.operator)
    at = 0
    for name in node.outputs:
        size = sheet.shape(name)
        begin = [at if place == axis else 0 for place in range(len(size))]
        parts = [sheet.drawing.constant(what, np.array(held, np.int32)) for what, held in (("begin", begin), ("size", _whole(size)))]
        sheet.keep(name, sheet.draw("SLICE", [value.index, *parts], name))
        at += size[axis]


def _whole(shape: tuple[int, ...]) -> list[int]:
    """SLICE takes -1 for all that there is."""
    return [-1 if size == ANY else size for size in shape]


def _expand(sheet: Sheet, node: Node) -> None:
    value, shape = sheet.value(node.inputs[0], last=False), sheet.shape(node.outputs[0])
    if value.shape != shape:
        # adding zeros of that shape: BROADCAST_TO wants to know how many rows
        zeros = sheet.drawing.constant("zeros", np.zeros([1 if size == ANY else size for size in shape], np.float32))
        value = sheet.draw("ADD", [value.index, zeros], node.outputs[0])
    sheet.keep(node.outputs[0], value)


def _resize(sheet: Sheet, node: Node) -> None:
    value, shape = sheet.value(node.inputs[0], last=True), sheet.shape(node.outputs[0])
    mode, where = (node.attributes.get(key, b"").decode() for key in ("mode", "coordinate_transformation_mode"))
    options = _PLACES.get((mode, where))
    down = mode == "nearest" and node.attributes.get("nearest_mode", b"") != b"floor"
    if options is None or down or len(shape) != 4 or shape[1] != value.shape[1]:
        raise BadInput(f"Resize by {mode}, {where} cannot become TFLite", field=node.operator)
    operator = "RESIZE_NEAREST_NEIGHBOR" if mode == "nearest" else "RESIZE_BILINEAR"
    size = sheet.drawing.constant("size", np.array(shape[2:], np.int32))
    sheet.keep(node.outputs[0], sheet.draw(operator, [value.index, size], node.outputs[0], last=True, **options))


_PLACES = {
    ("nearest", "asymmetric"): {},
    ("linear", "half_pixel"): {"halfPixelCenters": True},
    ("linear", "pytorch_half_pixel"): {"halfPixelCenters": True},
    ("linear", "align_corners"): {"alignCorners": True},
}
OPERATORS: Mapping[str, Callable[[Sheet, Node], None]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Resize": _resize,
    "Transpose": _transpose,
    "Concat": _join,
    "Pad": _pad,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Expand": _expand,
}
