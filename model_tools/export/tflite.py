"""TFLite, where its extra is installed; model_tools/litert is what it takes."""

from typing import Literal

import numpy as np

from model_tools.errors import BadInput
from model_tools.quantize.recipe import Quantized, Recipe

_MISSING = "TFLite files need the extra `tflite` (pip install 'edgefleet[tflite]')"


def export_tflite(model: bytes, probes: np.ndarray | None = None) -> bytes:
    """litert.conversion.convert_to_tflite. Raises BadInput where the extra is not installed, too."""
    try:
        from model_tools.litert.conversion import convert_to_tflite
    except ImportError as error:
        raise BadInput(_MISSING, field="format") from error
    return convert_to_tflite(model, probes)


def precision_of(model: bytes) -> Literal["fp32", "fp16", "int8"]:
    """By what its tensors hold. Raises BadInput for what is no TFLite file, and where the extra is not installed."""
    try:
        from model_tools.litert import flatbuffer
    except ImportError as error:
        raise BadInput(_MISSING, field="runtime") from error
    return flatbuffer.precision(flatbuffer.decode(model))


def quantize_tflite(model: bytes, rows: np.ndarray | None = None, recipe: Recipe | None = None, *, whole: bool = False) -> Quantized:
    """litert.quantization.quantize_tflite. Raises BadInput where the extra is not installed, too."""
    try:
        import ai_edge_quantizer  # noqa: F401 - it is imported where it is used, when a graph is already read

        from model_tools.litert import quantization
    except ImportError as error:
        raise BadInput(_MISSING, field="recipe") from error
    return quantization.quantize_tflite(model, rows, recipe, whole=whole)
