"""What operators draw on: the values of the ONNX graph by name, as far as they are drawn."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from model_tools.errors import BadInput
from model_tools.litert.drawing import Drawing
from model_tools.litert.tracing import Node, Trace
from model_tools.litert.values import Layouts, Value, constant_last, last_shape

_FUSING = {"Conv2DOptions", "DepthwiseConv2DOptions", "FullyConnectedOptions", "AddOptions", "SubOptions", "MulOptions", "Pool2DOptions"}


class Sheet:
    def __init__(self, drawing: Drawing, facts: Trace) -> None:
        self.drawing = drawing
        self.layouts = Layouts(drawing)
        self._facts = facts
        self._values = {name: Value(drawing.tensor(name, facts.shapes[name]), facts.shapes[name]) for name in facts.inputs}
        self._wanted = _wanted(facts)

    def needed(self, node: Node) -> bool:
        """Whether an output of the graph follows from it; shapes that it computes do not count, for they are known."""
        return any(name in self._wanted for name in node.outputs)

    def value(self, name: str, *, last: bool | None = None) -> Value:
        """As it lies or, with `last`, so. A constant becomes a tensor. Raises BadInput for one that was not drawn."""
        if name in self._facts.constants:
            held = self._facts.constants[name]
            made = held.astype(np.float32) if held.dtype.kind == "f" else held
            return Value(self.drawing.constant(name, made), made.shape)
        if name not in self._values:
            raise BadInput(f"tensor {name!r} cannot become TFLite", field=name)
        value = self._values[name]
        return value if last is None else self.layouts.to_last(value) if last else self.layouts.to_plain(value)

    def is_constant(self, name: str) -> bool:
        return name in self._facts.constants

    def constant(self, name: str) -> np.ndarray:
        """Raises KeyError."""
        return self._facts.constants[name]

    def optional(self, node: Node, at: int) -> np.ndarray | None:
        """The constant operand at this place, where there is one. Raises KeyError for one that is computed."""
        return self.constant(node.inputs[at]) if len(node.inputs) > at and node.inputs[at] else None

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._facts.constants[name].shape) if self.is_constant(name) else self._facts.shapes[name]

    def draw(
        self, operator: str, inputs: Sequence[int], name: str, *, last: bool = False, shape=None, dtype=np.float32, **options
    ) -> Value:
        """One operator whose result is the ONNX tensor `name`, or one of `shape` on the way to it. `options` as in Drawing.add."""
        found = self.shape(name) if shape is None else tuple(shape)
        made = self.drawing.tensor(name if shape is None else f"{name}/{operator.lower()}", last_shape(found) if last else found, dtype)
        self.drawing.add(operator, inputs, [made], **options)
        return Value(made, found, last=last)

    def keep(self, name: str, value: Value) -> None:
        """This is the ONNX tensor `name`."""
        self._values[name] = value

    def together(self, names: Sequence[str]) -> tuple[list[int], bool, int]:
        """Operands of an operator that works value by value: their tensors, whether they lie with channels last, and how many axes they have."""
        rank = max(len(self.shape(name)) for name in names)
        moving = [name for name in names if not self.is_constant(name)]
        last = any(self._values[name].last for name in moving if name in self._values) and all(len(self.shape(n)) == rank for n in moving)
        return [self._operand(name, last, rank) for name in names], last, rank

    def fuse(self, node: Node, activation: str) -> bool:
        """Whether the operator before took this activation into itself: it does where nobody else reads its result."""
        value = self._values.get(node.inputs[0])
        before = self.drawing.operators[-1] if self.drawing.operators else None
        if value is None or before is None or list(before.outputs) != [value.index] or self._facts.uses(node.inputs[0]) != 1:
            return False
        options = before.builtinOptions
        kind = type(options).__name__.removesuffix("T")
        if kind not in _FUSING or options.fusedActivationFunction:
            return False
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
        self.drawing.rename(value.index, node.outputs[0])
        self.keep(node.outputs[0], replace(value, positive=True))
        return True

    def finish(self) -> bytes:
        inputs = [(name, self._values[name].index) for name in self._facts.inputs]
        return self.drawing.finish(inputs, [(name, self._told(name)) for name in self._facts.outputs])

    def _told(self, name: str) -> int:
        """Raises BadInput for an output that is an input or a constant."""
        value = self.value(name, last=False)
        if self.is_constant(name) or name in self._facts.inputs:
            raise BadInput(f"output {name!r} does not follow from the input", field=name)
        return value.index

    def _operand(self, name: str, last: bool, rank: int) -> int:
        if not self.is_constant(name):
            return self.value(name, last=last).index
        held = self.constant(name)
        if held.size > 1 and last:
            held = constant_last(held, rank)
        return self.drawing.constant(name, held.astype(np.float32) if held.dtype.kind == "f" else held)


def _wanted(facts: Trace) -> set[str]:
    """Names that the outputs follow from. Whoever reshapes or expands knows the shape from the trace."""
    wanted = set(facts.outputs)
    for node in reversed(facts.nodes):
        if wanted.intersection(node.outputs):
            wanted |= {node.inputs[0]} if node.operator in ("Reshape", "Expand", "Shape") else {name for name in node.inputs if name}
    return wanted
