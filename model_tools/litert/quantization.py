"""TFLite files made smaller by ai-edge-quantizer, with ranges of our own."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np

from model_tools import running
from model_tools.errors import BadData, BadInput, Failed
from model_tools.evaluate.noise import sqnr_db
from model_tools.graphs import LiteRtGraph
from model_tools.litert import flatbuffer
from model_tools.litert.float_form import float_form
from model_tools.litert.observing import Ranges, find_ranges
from model_tools.litert.placement import whole_numbers
from model_tools.quantize.recipe import Quantized, Recipe
from model_tools.sections import RangeRule

_BITS = 8


def quantize_tflite(model: bytes, rows: np.ndarray | None = None, recipe: Recipe | None = None, *, whole: bool = False) -> Quantized:
    """A float TFLite file by one of the recipes; same model, rows and recipe, same bytes. None: int8 with the ranges that keep most of the signal
    in the answers to `rows`.

    int8: symmetric weights, per channel, asymmetric activations (Jacob et al. 2018, arXiv 1712.05877), whose ranges are those of `rows` float32
    (rows, ...) but outliers. Inputs, outputs and what stands before the first and behind the last layer with weights stay float32, unless `whole`:
    then all is int8, as microcontrollers want it, and raw units of different sizes share one scale. `recipe.excluded` are operators by the names
    of their outputs. Raises BadInput for what is no float TFLite file, BadData for rows that it does not take, Failed where nothing can be quantized.
    """
    plain = float_form(model)
    if recipe is not None and recipe.kind != "int8":
        return Quantized(recipe, _checked(_stored(plain, recipe)))
    if rows is None or not len(rows):
        raise BadData("quantizing to int8 needs calibration rows", field="quantize.rows", limit=1)
    if recipe is not None:
        return _static(plain, rows, [recipe], whole)[0]
    wanted = running.answers("litert", plain, rows)
    tried = _static(plain, rows, [Recipe("int8", rule) for rule in get_args(RangeRule)], whole)
    return max(tried, key=lambda made: sqnr_db(wanted, running.answers("litert", made.model, rows)))


def _static(plain: bytes, rows: np.ndarray, recipes: Sequence[Recipe], whole: bool) -> list[Quantized]:
    found = find_ranges(plain, rows, [recipe.ranges for recipe in recipes])
    return [
        Quantized(recipe, _checked(_run(_placed(plain, recipe, whole), _statistics(ranges))), _warnings(ranges, rows))
        for recipe, ranges in zip(recipes, found, strict=True)
    ]


def _placed(plain: bytes, recipe: Recipe, whole: bool):
    """A quantizer that knows which operators are to be int8."""
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName

    granularity = QuantGranularity.CHANNELWISE if recipe.per_channel else QuantGranularity.TENSORWISE
    settings = (TFLOperationName.ALL_SUPPORTED, _BITS, _BITS, granularity)
    quantizer = _quantizer(plain)
    if whole:
        quantizer.add_static_config(".*", *settings)
    for name in [] if whole else whole_numbers(flatbuffer.decode(plain), recipe.excluded):
        quantizer.add_static_config(f"^{re.escape(name)};?$", *settings)
    return quantizer


def _stored(plain: bytes, recipe: Recipe) -> bytes:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    quantizer = _quantizer(plain)
    every = (".*", TFLOperationName.ALL_SUPPORTED)
    if recipe.kind == "dynamic":
        quantizer.add_dynamic_config(*every, _BITS)
    elif recipe.kind == "weights":
        quantizer.add_weight_only_config(*every, _BITS)
    elif recipe.kind == "fp16":
        quantizer.add_weight_only_config(*every, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    else:
        raise BadInput(f"{recipe.kind!r} is no recipe for TFLite", field="recipe")
    return _run(quantizer, None)


def _quantizer(plain: bytes):
    from ai_edge_quantizer.quantizer import Quantizer

    return Quantizer(bytearray(plain))


def _run(quantizer, statistics: dict | None) -> bytes:
    if not quantizer.get_quantization_recipe():
        raise Failed("nothing in the graph could be quantized", field="quantize")
    with _silence():
        try:
            return bytes(quantizer.quantize(statistics, enable_progress_bar=False, enable_progress_report=False).quantized_model)
        except (ValueError, RuntimeError, KeyError) as error:
            raise BadInput(f"the model cannot be quantized: {error}", field="model") from error


def _statistics(found: Ranges) -> dict[str, dict[str, np.ndarray]]:
    """As the quantizer keeps them, by tensor."""
    return {name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)} for name, (low, high) in found.bounds.items()}


def _warnings(found: Ranges, rows: np.ndarray) -> tuple[str, ...]:
    told = []
    if len(rows) == 1:
        told.append("one calibration row: what other rows do beyond it is cut off")
    if len(found.outliers):
        told.append(f"{len(found.outliers)} of {len(rows)} calibration rows are outliers, and are left out: {found.outliers[:5].tolist()}")
    return tuple(told)


def _checked(made: bytes) -> bytes:
    """Runs with one row. Raises BadInput."""
    graph = LiteRtGraph(made, fused=True)
    zeros = {name: np.zeros([max(1, size) for size in tensor.shape], tensor.dtype) for name, tensor in graph.inputs.items()}
    graph.run(zeros, list(graph.outputs))
    return made


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The quantizer prints reports and warns of what it does not touch."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
