"""Convolutions and products of matrices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from model_tools.errors import BadInput
from model_tools.litert.drawing import NONE
from model_tools.litert.padding import Frame, frame_of, pad
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import Node
from model_tools.litert.values import Value


@dataclass(frozen=True)
class _Filter:
    """`kernel` (outputs, inputs of a group, height, width)."""

    kernel: np.ndarray
    bias: np.ndarray | None
    groups: int


def _convolve(sheet: Sheet, node: Node) -> None:
    found = _filter(sheet, node)
    value = sheet.value(node.inputs[0], last=True)
    frame = frame_of(node, found.kernel.shape[2:], value.lying[1:3])
    value, padding = pad(sheet, value, frame, node.outputs[0])
    channels = value.shape[1]
    deep = found.groups == channels > 1 and found.kernel.shape[1] == 1
    options: dict[str, object] = {"padding": padding, **_strides(frame)}
    if deep:
        kernel = np.moveaxis(found.kernel, 0, -1).reshape(1, *found.kernel.shape[2:], -1)
        options["depthMultiplier"] = found.kernel.shape[0] // channels
    else:
        kernel = np.moveaxis(found.kernel, 1, -1)
    bias = np.zeros(found.kernel.shape[0]) if found.bias is None else found.bias
    operands = [value.index, _weights(sheet, node.inputs[1], kernel), _weights(sheet, f"{node.outputs[0]}/bias", bias)]
    operator = "DEPTHWISE_CONV_2D" if deep else "CONV_2D"
    sheet.keep(node.outputs[0], sheet.draw(operator, operands, node.outputs[0], last=True, **options))


def _filter(sheet: Sheet, node: Node) -> _Filter:
    kernel = sheet.constant(node.inputs[1]).astype(np.float32)
    if kernel.ndim not in (3, 4):
        raise BadInput(f"{node.operator} over {kernel.ndim - 2} axes cannot become TFLite", field=node.operator, limit=2)
    wide = kernel[:, :, None, :] if kernel.ndim == 3 else kernel
    return _Filter(wide, sheet.optional(node, 2), int(node.attributes.get("group", 1)))


def _strides(frame: Frame) -> dict[str, object]:
    (down, right), (tall, wide) = frame.strides, frame.dilations
    return {"strideH": down, "strideW": right, "dilationHFactor": tall, "dilationWFactor": wide}


def _spread(sheet: Sheet, node: Node) -> None:
    """A transposed convolution, cut to its size where ONNX pads."""
    found = _filter(sheet, node)
    value, name = sheet.value(node.inputs[0], last=True), node.outputs[0]
    frame = frame_of(node, found.kernel.shape[2:], value.lying[1:3])
    if found.groups != 1 or frame.dilations != (1, 1):
        raise BadInput("a ConvTranspose with groups or dilations cannot become TFLite", field=node.operator, limit=1)
    kernel = np.ascontiguousarray(np.transpose(found.kernel, (1, 2, 3, 0)))
    outputs = kernel.shape[0]
    rows, *_ = value.shape
    if rows < 0:
        raise BadInput("a ConvTranspose with an open number of rows cannot become TFLite: export for one row", field=node.operator, limit=1)
    sides = [(size - 1) * stride + side for size, stride, side in zip(value.lying[1:3], frame.strides, kernel.shape[1:3], strict=True)]
    target = sheet.drawing.constant("shape", np.array([rows, *sides, outputs], np.int32))
    operands = [target, _weights(sheet, node.inputs[1], kernel), value.index]
    if found.bias is not None:
        operands.append(_weights(sheet, f"{name}/bias", found.bias))
    (down, right), shape = frame.strides, (rows, outputs, *sides)
    whole = sheet.draw("TRANSPOSE_CONV", operands, name, last=True, shape=shape, padding=schema.Padding.VALID, strideH=down, strideW=right)
    cut = np.array([0, frame.before[0], frame.before[1], 0], np.int32)
    made = Value(NONE, sheet.shape(name), last=True)
    size = np.array(made.lying, np.int32)
    parts = [whole.index, sheet.drawing.constant("begin", cut), sheet.drawing.constant("size", size)]
    sheet.keep(name, sheet.draw("SLICE", parts, name, last=True))


def _multiply(sheet: Sheet, node: Node) -> None:
    """A fully connected layer where the right side is a constant matrix, else a product of batches."""
    left, right = node.inputs[:2]
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    turned = bool(node.attributes.get("transB", 0))
    if node.attributes.get("transA", 0):
        raise BadInput("Gemm with transA cannot become TFLite", field=node.operator)
    if not sheet.is_constant(right) or sheet.constant(right).ndim != 2:
        _multiply_batches(sheet, node, alpha, turned)
        return
    held = sheet.constant(right).astype(np.float32) * np.float32(alpha)
    weights = held if turned else held.T
    bias = np.zeros(len(weights)) if len(node.inputs) < 3 or not node.inputs[2] else sheet.constant(node.inputs[2]) * beta
    bias = np.broadcast_to(np.ravel(bias), len(weights))
    operands = [sheet.value(left, last=False).index, _weights(sheet, right, weights), _weights(sheet, f"{node.outputs[0]}/bias", bias)]
    kept = len(sheet.shape(left)) != 2
    sheet.keep(node.outputs[0], sheet.draw("FULLY_CONNECTED", operands, node.outputs[0], keepNumDims=kept))


def _multiply_batches(sheet: Sheet, node: Node, alpha: float, turned: bool) -> None:
    if alpha != 1 or len(node.inputs) > 2:
        raise BadInput("Gemm of two computed matrices cannot become TFLite", field=node.operator)
    operands = [sheet.value(name, last=None if sheet.is_constant(name) else False).index for name in node.inputs[:2]]
    sheet.keep(node.outputs[0], sheet.draw("BATCH_MATMUL", operands, node.outputs[0], adjX=False, adjY=turned))


def _weights(sheet: Sheet, name: str, values: np.ndarray) -> int:
    return sheet.drawing.constant(name, np.ascontiguousarray(values, np.float32))


OPERATORS: Mapping[str, Callable[[Sheet, Node], None]] = {
    "Conv": _convolve,
    "ConvTranspose": _spread,
    "Gemm": _multiply,
    "MatMul": _multiply,
}
