"""Pooling."""

from collections.abc import Callable, Mapping
from functools import partial

from model_tools.errors import BadInput
from model_tools.litert.padding import frame_of, pad
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import Node


def _pool(operator: str, sheet: Sheet, node: Node) -> None:
    value, name = sheet.value(node.inputs[0], last=True), node.outputs[0]
    frame = frame_of(node, tuple(node.attributes["kernel_shape"]), value.lying[1:3])
    if frame.dilations != (1, 1):
        raise BadInput(f"{node.operator} with dilations cannot become TFLite", field=node.operator, limit=1)
    if operator == "MAX_POOL_2D":
        # the nearest values again are no larger than those that the kernel sees beside them
        value, padding = pad(sheet, value, frame, name, "PAD" if value.positive else "MIRROR_PAD")
    else:
        counted = bool(node.attributes.get("count_include_pad", 0))
        if not (frame.valid or frame.same or counted):
            raise BadInput("AveragePool with this padding cannot become TFLite", field=node.operator)
        value, padding = pad(sheet, value, frame, name, drawn=counted)
    (tall, wide), (down, right) = frame.kernel, frame.strides
    options = {"filterHeight": tall, "filterWidth": wide, "strideH": down, "strideW": right, "padding": padding}
    sheet.keep(name, sheet.draw(operator, [value.index], name, last=True, **options))


OPERATORS: Mapping[str, Callable[[Sheet, Node], None]] = {
    "AveragePool": partial(_pool, "AVERAGE_POOL_2D"),
    "MaxPool": partial(_pool, "MAX_POOL_2D"),
}
