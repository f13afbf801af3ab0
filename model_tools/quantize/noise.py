"""How far a quantized model's answers are from the float model's."""

import math

import numpy as np

from model_tools.quantize.calibration import Calibration
from model_tools.quantize.observing import run_rows

_ROWS = 512


def signal_to_noise(calibration: Calibration, model: bytes, rows: int = _ROWS) -> float:
    """Of the first output on the first `rows` calibration rows, in dB; infinite when equal, minus infinity for answers that are not finite."""
    fixed = calibration.graph.fixed_rows
    rows = max(rows - rows % fixed, fixed) if fixed else rows
    wanted = calibration.answered[:rows].astype(np.float64)
    noise = float(np.square(run_rows(model, calibration.rows[:rows], fixed)[: len(wanted)] - wanted).mean())
    signal = float(np.square(wanted).mean())
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(signal / noise) if noise and signal else math.inf
