"""From an ONNX graph to a TFLite file of the same names, inputs and outputs: a writer for the operators of our networks and of plain others."""

from collections.abc import Callable, Mapping

import numpy as np

from model_tools.errors import BadInput, Failed
from model_tools.graphs import LiteRtGraph, OnnxGraph
from model_tools.litert import arithmetic, convolution, pooling, reducing, shaping
from model_tools.litert.drawing import Drawing
from model_tools.litert.sheet import Sheet
from model_tools.litert.tracing import ANY, Node, trace

OPERATORS: Mapping[str, Callable[[Sheet, Node], None]] = {
    **arithmetic.OPERATORS,
    **convolution.OPERATORS,
    **pooling.OPERATORS,
    **reducing.OPERATORS,
    **shaping.OPERATORS,
}
_PROBES = 8
_MOST_DIFFERENCE = 1e-3
"""Of the largest output; float32 kernels differ by re-ordered sums alone."""


def convert_to_tflite(model: bytes, probes: np.ndarray | None = None) -> bytes:
    """A float32 TFLite file that answers as this float32 ONNX model does: the same tensor names (as the file's one signature tells them) and
    shapes, rows open where they were. Same model, same bytes.

    `probes` float32 (rows, ...) are what both are asked; without, values around 0. Raises BadInput naming the operator that cannot be converted, and
    Failed when the two differ by more than a thousandth of the largest output.
    """
    facts = trace(model)
    sheet = Sheet(Drawing(), facts)
    for node in facts.nodes:
        if sheet.needed(node):
            _convert(sheet, node)
    written = sheet.finish()
    _check(model, written, probes)
    return written


def _convert(sheet: Sheet, node: Node) -> None:
    draw = OPERATORS.get(node.operator)
    if draw is None:
        raise BadInput(f"operator {node.operator!r} cannot become TFLite", field=node.operator)
    try:
        draw(sheet, node)
    except KeyError as error:
        raise BadInput(f"operator {node.operator!r}: {error} should be a constant", field=node.operator) from error
    except (IndexError, TypeError) as error:
        raise BadInput(f"operator {node.operator!r} lacks an operand: {error}", field=node.operator) from error


def _check(model: bytes, written: bytes, probes: np.ndarray | None) -> None:
    one, other = OnnxGraph(model, fused=False), LiteRtGraph(written, fused=True)
    (name, tensor), *_ = one.inputs.items()
    if probes is None:
        shape = [_PROBES if size == ANY else size for size in tensor.shape]
        probes = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rows = tensor.shape[0]
    for fed in [probes[:rows]] if rows > 0 else [probes[:1], probes[:_PROBES]]:
        wanted = one.run({name: fed}, list(one.outputs))
        for output, right, found in zip(one.outputs, wanted, other.run({name: fed}, list(one.outputs)), strict=True):
            difference = float(np.abs(right - found).max()) if right.shape == found.shape else np.inf
            if not difference <= _MOST_DIFFERENCE * max(1.0, float(np.abs(right).max())):
                raise Failed(f"the TFLite graph's {output!r} differs from ONNX by {difference:.3g}", field="export", limit=_MOST_DIFFERENCE)
