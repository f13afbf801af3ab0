"""What flows through a float TFLite model while it looks at calibration rows: true extremes, where ai-edge-quantizer keeps a moving average."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from model_tools.errors import BadData, BadInput
from model_tools.litert import flatbuffer
from model_tools.quantize.observing import BINS, Reach, join
from model_tools.quantize.outliers import find_outliers
from model_tools.quantize.ranges import Histogram, choose_range
from model_tools.running import laid_out
from model_tools.sections import RangeRule

_ROWS = 32
_BATCH_VALUES = 2**20
Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Ranges:
    """By tensor; `outliers` are the positions of the rows that they leave out."""

    bounds: Bounds
    outliers: np.ndarray


def find_ranges(model: bytes, rows: np.ndarray, rules: Sequence[RangeRule]) -> list[Ranges]:
    """One for each rule, of every float activation of a float TFLite file with one input; `rows` float32 (rows, ...). Raises BadData for no rows or
    rows of another shape, BadInput for rows that drive it to NaN or infinity."""
    reach = _extremes(model, rows)
    outliers = find_outliers(reach)
    counting = np.ones(len(rows), bool)
    counting[outliers] = False
    whole = {name: (float(low[counting].min()), float(high[counting].max())) for name, (low, high) in reach.items()}
    seen = {} if list(rules) == ["minmax"] else _histograms(model, rows[counting], whole)
    chosen = [whole if rule == "minmax" else {name: choose_range(rule, held) for name, held in seen.items()} for rule in rules]
    return [Ranges(bounds, outliers) for bounds in chosen]


def _extremes(model: bytes, rows: np.ndarray) -> Reach:
    """By tensor the least and the largest value of every row; where rows are no axis of it, the batch's."""
    found: dict[str, list[np.ndarray]] = {}
    for batch, flowing in _watch(model, rows):
        for name, values in flowing.items():
            flat = values.reshape(batch, -1) if values.size % batch == 0 else np.broadcast_to(values.reshape(1, -1), (batch, values.size))
            found.setdefault(name, []).append(np.stack([flat.min(axis=1), flat.max(axis=1)]))
    return join(found)


def _histograms(model: bytes, rows: np.ndarray, whole: Bounds) -> dict[str, Histogram]:
    counts = {name: np.zeros(BINS, np.int64) for name in whole}
    for _, flowing in _watch(model, rows):
        for name, values in flowing.items():
            low, high = whole[name]
            counts[name] += np.histogram(values, BINS, (low, high if high > low else low + 1.0))[0]
    return {name: Histogram(counts[name], *whole[name]) for name in whole}


def _watch(model: bytes, rows: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """How many rows a batch has, and the model's float activations for them."""
    interpreter = _opened(model)
    given, *more = interpreter.get_input_details()
    names = _activations(model)
    shape = given["shape_signature"].tolist()
    if more or not len(rows):
        raise BadData(f"{len(rows)} calibration rows for {1 + len(more)} inputs", field="quantize.rows", limit=1)
    try:
        rows = laid_out(rows, shape)
    except BadInput as error:
        raise BadData(f"the calibration rows do not fit: {error}", field="quantize.rows", limit=str(shape)) from error
    size = shape[0] if shape[0] > 0 else max(1, min(_ROWS, _BATCH_VALUES // max(1, rows[0].size)))
    for at in range(0, len(rows) - (shape[0] - 1 if shape[0] > 0 else 0), size):
        batch = np.ascontiguousarray(rows[at : at + size], np.float32)
        try:
            interpreter.resize_tensor_input(given["index"], batch.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], batch)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"the model does not run: {error}", field="model") from error
        yield len(batch), {name: interpreter.get_tensor(index) for name, index in names.items()}


def _opened(model: bytes) -> Interpreter:
    """Every tensor stays to be read, which the engine warns of; no kernels that take several operators at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Interpreter(
            model_content=model,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )


def _activations(model: bytes) -> dict[str, int]:
    """Float tensors that operators read or write, by name."""
    tree = flatbuffer.decode(model)
    graph = tree.subgraphs[0]
    used = {int(index) for operator in graph.operators for index in (*operator.inputs, *operator.outputs) if index >= 0}
    return {
        flatbuffer.name(graph.tensors[index]): index
        for index in sorted(used)
        if graph.tensors[index].type == 0 and flatbuffer.values(tree, graph.tensors[index]) is None
    }
