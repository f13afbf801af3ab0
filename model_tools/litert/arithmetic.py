"""Operators that work value by value."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from model_tools.errors import BadInput
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import Node
from model_tools.litert.values import Value, constant_last

_ERF_P = 0.3275911
_ERF_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_FLOAT = 1
"""TensorProto.FLOAT."""
_POSITIVE = {"RELU", "RELU6", "LOGISTIC", "ABS", "SQRT", "EXP"}


def _elementwise(operator: str, sheet: Sheet, node: Node) -> None:
    names = [name for name in node.inputs if name]
    if len(names) > 2:
        raise BadInput(f"{node.operator} of {len(names)} tensors cannot become TFLite", field=node.operator, limit=2)
    operands, last, _ = sheet.together(names)
    made = sheet.draw(operator, operands, node.outputs[0], last=last)
    sheet.keep(node.outputs[0], Value(made.index, made.shape, last=last, positive=operator in _POSITIVE))


def _activation(operator: str, sheet: Sheet, node: Node) -> None:
    if not sheet.fuse(node, operator):
        _elementwise(operator, sheet, node)


def _clip(sheet: Sheet, node: Node) -> None:
    low, high = (_bound(sheet, node, at, name) for at, name in ((1, "min"), (2, "max")))
    if (low, high) in ((0.0, 6.0), (0.0, np.inf)):
        _activation("RELU6" if high == 6 else "RELU", sheet, Node(node.operator, node.inputs[:1], node.outputs, {}))
        return
    value, name = sheet.value(node.inputs[0]), node.outputs[0]
    index = value.index
    for operator, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if np.isfinite(bound):
            index = sheet.draw(operator, [index, _number(sheet, bound)], name, last=value.last, shape=value.shape).index
    sheet.keep(name, Value(index, value.shape, last=value.last, positive=low >= 0))


def _bound(sheet: Sheet, node: Node, at: int, name: str) -> float:
    held = sheet.optional(node, at)
    limit = -np.inf if name == "min" else np.inf
    return float(held) if held is not None else float(node.attributes.get(name, limit))


def _asinh(sheet: Sheet, node: Node) -> None:
    """sign(x) ln(|x| + m sqrt((x/m)^2 + (1/m)^2)) with m = max(|x|, 1): no square of a large x, which would overflow."""
    value, name = sheet.value(node.inputs[0]), node.outputs[0]

    def step(operator: str, *operands: int) -> int:
        return sheet.draw(operator, operands, f"{name}", last=value.last, shape=value.shape).index

    one, size = _number(sheet, 1.0), step("ABS", value.index)
    most = step("MAXIMUM", size, one)
    ratio, share = step("DIV", size, most), step("DIV", one, most)
    root = step("SQRT", step("ADD", step("MUL", ratio, ratio), step("MUL", share, share)))
    grown = step("LOG", step("ADD", size, step("MUL", most, root)))
    made = sheet.draw("MUL", [step("SIGN", value.index), grown], name, last=value.last)
    sheet.keep(name, made)


def _erf(sheet: Sheet, node: Node) -> None:
    """sign(x) (1 - (a1 t + ... + a5 t^5) exp(-x^2)) with t = 1 / (1 + p |x|): Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    value, name = sheet.value(node.inputs[0]), node.outputs[0]

    def step(operator: str, *operands: int) -> int:
        return sheet.draw(operator, operands, name, last=value.last, shape=value.shape).index

    size, one = step("ABS", value.index), _number(sheet, 1.0)
    t = step("DIV", one, step("ADD", step("MUL", size, _number(sheet, _ERF_P)), one))
    total = step("MUL", t, _number(sheet, _ERF_A[-1]))
    for factor in _ERF_A[-2::-1]:
        total = step("MUL", step("ADD", total, _number(sheet, factor)), t)
    tail = step("MUL", total, step("EXP", step("NEG", step("MUL", size, size))))
    sheet.keep(name, sheet.draw("MUL", [step("SIGN", value.index), step("SUB", one, tail)], name, last=value.last))


def _compare(operator: str, sheet: Sheet, node: Node) -> None:
    operands, last, _ = sheet.together(node.inputs)
    sheet.keep(node.outputs[0], sheet.draw(operator, operands, node.outputs[0], last=last, dtype=bool))


def _reciprocal(sheet: Sheet, node: Node) -> None:
    value = sheet.value(node.inputs[0])
    sheet.keep(node.outputs[0], sheet.draw("DIV", [_number(sheet, 1.0), value.index], node.outputs[0], last=value.last))


def _choose(sheet: Sheet, node: Node) -> None:
    operands, last, _ = sheet.together(node.inputs)
    sheet.keep(node.outputs[0], sheet.draw("SELECT_V2", operands, node.outputs[0], last=last))


def _leaky(sheet: Sheet, node: Node) -> None:
    value, alpha = sheet.value(node.inputs[0]), float(node.attributes.get("alpha", 0.01))
    sheet.keep(node.outputs[0], sheet.draw("LEAKY_RELU", [value.index], node.outputs[0], last=value.last, alpha=alpha))


def _prelu(sheet: Sheet, node: Node) -> None:
    value, slope = sheet.value(node.inputs[0]), sheet.constant(node.inputs[1]).astype(np.float32)
    rank = len(value.shape)
    wide = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    turned = (constant_last(wide, rank) if value.last else wide)[0]
    sheet.keep(
        node.outputs[0], sheet.draw("PRELU", [value.index, sheet.drawing.constant("slope", turned)], node.outputs[0], last=value.last)
    )


def _hard_sigmoid(sheet: Sheet, node: Node) -> None:
    """max(0, min(1, alpha x + beta))."""
    value, name = sheet.value(node.inputs[0]), node.outputs[0]
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    index = value.index
    for operator, number in (("MUL", alpha), ("ADD", beta), ("MINIMUM", 1.0), ("MAXIMUM", 0.0)):
        index = sheet.draw(operator, [index, _number(sheet, number)], name, last=value.last, shape=value.shape).index
    sheet.keep(name, Value(index, value.shape, last=value.last, positive=True))


def _softplus(sheet: Sheet, node: Node) -> None:
    """max(x, 0) + ln(1 + exp(-|x|))."""
    value, name = sheet.value(node.inputs[0]), node.outputs[0]

    def step(operator: str, *operands: int) -> int:
        return sheet.draw(operator, operands, name, last=value.last, shape=value.shape).index

    small = step("LOG", step("ADD", step("EXP", step("NEG", step("ABS", value.index))), _number(sheet, 1.0)))
    sheet.keep(name, sheet.draw("ADD", [step("RELU", value.index), small], name, last=value.last))


def _softmax(operator: str, sheet: Sheet, node: Node) -> None:
    value = sheet.value(node.inputs[0])
    rank = len(value.shape)
    axis = int(node.attributes.get("axis", -1)) % rank
    if not (value.last and axis == 1):
        if axis != rank - 1:
            raise BadInput(f"{node.operator} along axis {axis} of {rank} cannot become TFLite", field=node.operator, limit=rank - 1)
        value = sheet.layouts.to_plain(value)
    options = {"beta": 1.0} if operator == "SOFTMAX" else {}
    sheet.keep(node.outputs[0], sheet.draw(operator, [value.index], node.outputs[0], last=value.last, **options))


def _same(sheet: Sheet, node: Node) -> None:
    sheet.keep(node.outputs[0], sheet.value(node.inputs[0]))


def _cast(sheet: Sheet, node: Node) -> None:
    if node.attributes.get("to") != _FLOAT:
        raise BadInput("Cast to another type than float32 cannot become TFLite", field=node.operator)
    _same(sheet, node)


def _normalise(sheet: Sheet, node: Node) -> None:
    """A batch normalisation that training is over for: x * a + b, channel by channel."""
    scale, bias, mean, variance = (sheet.constant(name).astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    value, name = sheet.value(node.inputs[0]), node.outputs[0]
    rank = len(value.shape)

    def along(values: np.ndarray) -> int:
        wide = values.astype(np.float32).reshape(1, -1, *([1] * (rank - 2)))
        return sheet.drawing.constant(name, constant_last(wide, rank) if value.last else wide)

    scaled = sheet.draw("MUL", [value.index, along(factor)], name, last=value.last, shape=value.shape)
    sheet.keep(name, sheet.draw("ADD", [scaled.index, along(bias - mean * factor)], name, last=value.last))


def _gelu(sheet: Sheet, node: Node) -> None:
    value = sheet.value(node.inputs[0])
    near = node.attributes.get("approximate", b"none") == b"tanh"
    sheet.keep(node.outputs[0], sheet.draw("GELU", [value.index], node.outputs[0], last=value.last, approximate=near))


def _number(sheet: Sheet, value: float) -> int:
    return sheet.drawing.constant("number", np.float32(value))


def _table(names: Sequence[tuple[str, str]], draw: Callable[[str, Sheet, Node], None]) -> Mapping[str, Callable[[Sheet, Node], None]]:
    return {onnx: partial(draw, tflite) for onnx, tflite in names}


OPERATORS: Mapping[str, Callable[[Sheet, Node], None]] = {
    **_table(
        [
            *(
                (name, name.upper())
                for name in ("Add", "Sub", "Mul", "Div", "Pow", "Exp", "Log", "Sqrt", "Abs", "Neg", "Sign", "Floor", "Ceil")
            ),
            *((name, name.upper()) for name in ("Tanh", "Elu", "Sin", "Cos", "Round")),
            ("Max", "MAXIMUM"),
            ("Min", "MINIMUM"),
            ("Sigmoid", "LOGISTIC"),
            ("HardSwish", "HARD_SWISH"),
        ],
        _elementwise,
    ),
    **_table([("Relu", "RELU")], _activation),
    **_table([("Softmax", "SOFTMAX"), ("LogSoftmax", "LOG_SOFTMAX")], _softmax),
    **_table([("Greater", "GREATER"), ("Less", "LESS"), ("GreaterOrEqual", "GREATER_EQUAL"), ("LessOrEqual", "LESS_EQUAL")], _compare),
    "Clip": _clip,
    "Erf": _erf,
    "Where": _choose,
    "Asinh": _asinh,
    "Reciprocal": _reciprocal,
    "LeakyRelu": _leaky,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "Softplus": _softplus,
    "BatchNormalization": _normalise,
    "Gelu": _gelu,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
}
