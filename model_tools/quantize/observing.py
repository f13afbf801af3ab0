"""What flows through a float model while it looks at rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from model_tools.errors import BadInput
from model_tools.graphs import OnnxGraph
from model_tools.quantize.float_graph import FloatGraph

BINS = 2_048
_ROWS = 32
_BATCH_VALUES = 2**20

Reach = dict[str, tuple[np.ndarray, np.ndarray]]
"""By tensor the least and the largest value of every row, float32 (rows,)."""


@dataclass(frozen=True)
class Stream:
    """One tensor: `counts` int64 (BINS,) of its values between `low` and `high`, its extremes; `peaks` float32 (channels,) are the largest magnitudes
    along axis 1."""

    low: float
    high: float
    counts: np.ndarray
    peaks: np.ndarray


def tensors_of(graph: FloatGraph) -> list[str]:
    """Those whose ranges int8 needs, in order: in and out of every node that may compute so."""
    flowing = [name for node in graph.integers() for name in (*graph.data_inputs(node), *node.output)]
    return list(dict.fromkeys(name for name in flowing if name))


def extremes(graph: FloatGraph, rows: np.ndarray) -> Reach:
    """Raises BadInput for rows that the model does not take or that drive it beyond float32."""
    found: dict[str, list[np.ndarray]] = {}
    for batch in _watch(graph, rows):
        for name, values in batch.items():
            flat = values.reshape(len(values), -1)
            found.setdefault(name, []).append(np.stack([flat.min(axis=1), flat.max(axis=1)]))
    return join(found)


def join(found: Mapping[str, Sequence[np.ndarray]]) -> Reach:
    """By tensor its batches' least and largest values, (2, rows of the batch) each. Raises BadInput for such as are not finite."""
    joined = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    if wild := next((name for name, both in joined.items() if not np.isfinite(both).all()), None):
        raise BadInput(f"the calibration rows drive {wild!r} beyond the range of float32", field="quantize.rows")
    return {name: (lows, highs) for name, (lows, highs) in joined.items()}


def observe(graph: FloatGraph, rows: np.ndarray) -> dict[str, Stream]:
    """By tensor; looks at the rows twice. Raises as `extremes` does."""
    bounds = {name: (float(lows.min()), float(highs.max())) for name, (lows, highs) in extremes(graph, rows).items()}
    counts = {name: np.zeros(BINS, np.int64) for name in bounds}
    peaks: dict[str, np.ndarray] = {}
    for batch in _watch(graph, rows):
        for name, values in batch.items():
            counts[name] += _histogram(values, *bounds[name])
            peak = np.abs(values).max(axis=tuple(axis for axis in range(values.ndim) if axis != 1))
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return {name: Stream(*bounds[name], counts[name], peaks[name]) for name in bounds}


def answers(graph: FloatGraph, rows: np.ndarray) -> list[np.ndarray]:
    """Its outputs, (rows, ...) each."""
    return run_rows(graph.model.SerializeToString(), rows, graph.fixed_rows)


def run_rows(model: bytes, rows: np.ndarray, fixed_rows: int) -> list[np.ndarray]:
    """The outputs of a model of one input; `rows` are a multiple of `fixed_rows`. Raises BadInput."""
    session = OnnxGraph(model, fused=True)
    (name, *_), outputs = session.inputs, list(session.outputs)
    told = [session.run({name: batch}, outputs) for batch in _batches(rows, fixed_rows)]
    return [np.concatenate(parts) for parts in zip(*told, strict=True)]


def _watch(graph: FloatGraph, rows: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Batches of the tensors that int8 needs, float32 (rows, ...)."""
    names = tensors_of(graph)
    inner = [name for name in names if name != graph.input]
    session = OnnxGraph(_opened(graph, inner), fused=False)
    for batch in _batches(rows, graph.fixed_rows):
        flowing = dict(zip(inner, session.run({graph.input: batch}, inner), strict=True))
        yield {graph.input: batch, **flowing} if graph.input in names else flowing


def _batches(rows: np.ndarray, fixed_rows: int) -> Iterator[np.ndarray]:
    size = fixed_rows or max(1, min(_ROWS, _BATCH_VALUES // max(1, rows[0].size)))
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


def _opened(graph: FloatGraph, names: Sequence[str]) -> bytes:
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    shown = {value.name for value in model.graph.output}
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in shown)
    return model.SerializeToString()


def _histogram(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if not high > low:
        return np.bincount([0], [values.size], BINS).astype(np.int64)
    at = ((values.ravel() - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int64)
    return np.bincount(np.clip(at, 0, BINS - 1), minlength=BINS)
