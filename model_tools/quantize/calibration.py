"""A float model together with what it does on calibration rows: everything that recipes of int8 are made from."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from model_tools.errors import BadData, Failed
from model_tools.quantize.equalizing import equalize
from model_tools.quantize.float_graph import FloatGraph, open_float
from model_tools.quantize.observing import Stream, answers, extremes, observe
from model_tools.quantize.outliers import find_outliers
from model_tools.quantize.ranges import Histogram, choose_range
from model_tools.quantize.recipe import Recipe
from model_tools.quantize.static import write_int8

_NAMED = 5
_FEW_ROWS = 16


@dataclass(frozen=True)
class Calibration:
    """`rows` are those that count, outliers left out; `streams` what flows through `graph` for them, by tensor; `answered` its
    outputs, (rows, ...) each; `warnings` say what is odd about the rows."""

    graph: FloatGraph
    rows: np.ndarray
    streams: dict[str, Stream]
    answered: list[np.ndarray]
    warnings: tuple[str, ...]

    @cached_property
    def equalized(self) -> "Calibration | None":
        """The same model with its channels rescaled, None where there is nothing to rescale."""
        graph = equalize(self.graph, {name: stream.peaks for name, stream in self.streams.items()})
        return None if graph is None else replace(self, graph=graph, streams=observe(graph, self.rows))

    def write(self, recipe: Recipe) -> bytes:
        """The int8 model. Raises Failed when nothing in it can be quantized."""
        chosen = (self.equalized or self) if recipe.equalized else self
        seen = {name: Histogram(stream.counts, stream.low, stream.high) for name, stream in chosen.streams.items()}
        ranges = {name: choose_range(recipe.ranges, histogram) for name, histogram in seen.items()}
        return write_int8(chosen.graph, ranges, excluded=recipe.excluded, per_channel=recipe.per_channel)


def calibrate(onnx_bytes: bytes, rows: np.ndarray) -> Calibration:
    """`rows` float32 (rows, ...) are like what the model will see. Raises BadData without rows or for such as are not finite, BadInput for a model
    that cannot be opened or does not take them, Failed for one without layers."""
    if not len(rows):
        raise BadData("quantizing needs calibration rows", field="quantize.rows", limit=1)
    if not np.isfinite(rows).all():
        raise BadData("the calibration rows hold NaN or infinity", field="quantize.rows")
    graph = open_float(onnx_bytes)
    if not graph.layers:
        raise Failed("the model has no layer that could be quantized: no Conv, Gemm or MatMul with weights of its own", field="quantize")
    rows = rows[: len(rows) - len(rows) % graph.fixed_rows] if graph.fixed_rows else rows
    if not len(rows):
        raise BadData(f"the model takes {graph.fixed_rows} rows at once, of which there are fewer", field="quantize.rows")
    odd = find_outliers(extremes(graph, rows))
    counting = np.delete(rows, odd, axis=0)
    return Calibration(graph, counting, observe(graph, counting), answers(graph, counting), tuple(_oddities(rows, odd)))


def _oddities(rows: np.ndarray, odd: np.ndarray) -> list[str]:
    told = []
    if len(odd):
        named = ", ".join(map(str, odd[:_NAMED].tolist())) + (", ..." if len(odd) > _NAMED else "")
        told.append(
            f"calibration-outliers: {len(odd)} of {len(rows)} calibration rows reach over four times as far as 95 % of them do "
            f"(positions {named}): they do not count, and inputs like them will be clipped"
        )
    if len(rows) < _FEW_ROWS:
        told.append(f"calibration-rows: {len(rows)} calibration rows hardly show the ranges of activations; {_FEW_ROWS} or more are wanted")
    elif (rows == rows[:1]).all():
        told.append("calibration-rows: all calibration rows are the same")
    return told
