"""How a kernel moves over a picture, and what TFLite's two ways of padding, SAME and VALID, make of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from model_tools.errors import BadInput
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import Node
from model_tools.litert.values import Value

Pair = tuple[int, int]


@dataclass(frozen=True)
class Frame:
    """Down and right. `after` is as much as the kernel reaches: what ONNX pads beyond that is never seen, and may be negative."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    before: Pair
    after: Pair
    sides: Pair

    @property
    def same(self) -> bool:
        """Whether it is what TFLite calls SAME: as many places as strides fit, and the odd value behind."""
        return all(
            _is_same(*axis) for axis in zip(self.sides, self.kernel, self.strides, self.dilations, self.before, self.after, strict=True)
        )

    @property
    def valid(self) -> bool:
        return all(pads[0] == 0 and pads[1] <= 0 for pads in zip(self.before, self.after, strict=True))


def frame_of(node: Node, kernel: tuple[int, ...], sides: tuple[int, ...]) -> Frame:
    """`kernel` and `sides` of a picture; a line is a picture of height 1. Raises BadInput for what TFLite has no word for."""
    told = node.attributes
    tall, wide = kernel if len(kernel) == 2 else (1, kernel[0])
    given = (tall, wide)
    strides, dilations = _pair(told.get("strides")), _pair(told.get("dilations"))
    pads = list(told.get("pads") or [0, 0, 0, 0])
    before, after = ((0, pads[0]), (0, pads[1])) if len(pads) == 2 else (tuple(pads[:2]), tuple(pads[2:]))
    automatic = told.get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID", b"SAME_UPPER") or told.get("ceil_mode", 0):
        raise BadInput(f"{node.operator} with auto_pad {automatic.decode()} or ceil_mode cannot become TFLite", field=node.operator)
    if automatic == b"SAME_UPPER":
        before, after = zip(*(_upper(*axis) for axis in zip(sides, given, strides, dilations, strict=True)), strict=True)
    reach = tuple(_reach(*axis) for axis in zip(sides, given, strides, dilations, before, after, strict=True))
    return Frame(given, strides, dilations, before, reach, sides)


def pad(
    sheet: Sheet, value: Value, frame: Frame, name: str, how: Literal["PAD", "MIRROR_PAD"] = "PAD", *, drawn: bool = False
) -> tuple[Value, int]:
    """The value with a border where TFLite has no word for the frame, and that word. PAD puts zeros there, MIRROR_PAD the nearest values. `drawn`: also
    where SAME would do, whose border an average does not count."""
    if frame.valid:
        return value, schema.Padding.VALID
    if frame.same and not drawn:
        return value, schema.Padding.SAME
    border = np.array([(0, 0), *((b, max(0, a)) for b, a in zip(frame.before, frame.after, strict=True)), (0, 0)], np.int32)
    _, height, width, channels = value.lying
    (above, below), (left, right) = border[1:3].tolist()
    shape = (value.shape[0], channels, height + above + below, width + left + right)
    options = {"mode": schema.MirrorPadMode.SYMMETRIC} if how == "MIRROR_PAD" else {}
    made = sheet.draw(how, [value.index, sheet.drawing.constant("border", border)], name, last=True, shape=shape, **options)
    return made, schema.Padding.VALID


def _pair(values: object) -> Pair:
    found = [1, 1] if values is None else [int(value) for value in values]
    return (found[0], found[1]) if len(found) == 2 else (1, found[0])


def _reach(side: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    span = dilation * (kernel - 1) + 1
    places = (side + before + after - span) // stride + 1
    return (places - 1) * stride + span - side - before


def _upper(side: int, kernel: int, stride: int, dilation: int) -> Pair:
    total = max(0, (-(-side // stride) - 1) * stride + dilation * (kernel - 1) + 1 - side)
    return total // 2, total - total // 2


def _is_same(side: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> bool:
    return (before, max(0, after)) == _upper(side, kernel, stride, dilation)
