"""TFLite: the ranges of ai-edge-quantizer's own calibration, a moving average, beside true ones."""

import contextlib
import io
import warnings
from importlib.util import find_spec

import numpy as np

from bench.quantize.models import Case

_NEEDED = "ai_edge_quantizer"


def measure(case: Case) -> dict[str, float] | None:
    """SQNR in dB on the unseen rows, by maker; the pictures are of very different brightness, as cameras give them. None where it is not installed."""
    if find_spec(_NEEDED) is None:
        return None
    from model_tools.evaluate.noise import sqnr_db
    from model_tools.litert.conversion import convert_to_tflite
    from model_tools.litert.quantization import quantize_tflite
    from model_tools.running import answers

    light = np.random.default_rng(0)
    calibration, test = (rows * light.uniform(0.1, 1, (len(rows), 1, 1, 1)).astype(np.float32) for rows in (case.calibration, case.test))
    plain = convert_to_tflite(case.fp32)
    wanted = answers("litert", plain, test)
    made = {"ours": quantize_tflite(plain, calibration, whole=True).model, "ai-edge-quantizer": _by_itself(plain, calibration)}
    return {maker: sqnr_db(wanted, answers("litert", model, test)) for maker, model in made.items()}


def _by_itself(model: bytes, rows: np.ndarray) -> bytes:
    from ai_edge_quantizer.quantizer import Quantizer
    from ai_edge_quantizer.recipe import static_wi8_ai8

    quantizer = Quantizer(bytearray(model), static_wi8_ai8())
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        warnings.simplefilter("ignore")
        statistics = quantizer.calibrate({"serving_default": [{"input": row[None]} for row in rows]}, num_threads=1)
        return bytes(quantizer.quantize(statistics, enable_progress_report=False).quantized_model)
