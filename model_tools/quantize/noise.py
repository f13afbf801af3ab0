"""How far a quantized model's answers are from the float model's."""

import math

import numpy as np

from model_tools.quantize.calibration import Calibration
from model_tools.quantize.observing import run_rows

_ROWS = 512


def signal_to_noise(calibration: Calibration, model: bytes, rows: int = _ROWS) -> float:
    """Of the worst output on the first `rows` calibration rows, in dB; infinite when equal, minus infinity for answers that are not finite."""
    fixed = calibration.graph.fixed_rows
    rows = max(rows - rows % fixed, fixed) if fixed else rows
    told = run_rows(model, calibration.rows[:rows], fixed)
    return min(_decibels(wanted[:rows], answered) for wanted, answered in zip(calibration.answered, told, strict=True))


def _decibels(wanted: np.ndarray, answered: np.ndarray) -> float:
    noise = float(np.square(answered.astype(np.float64) - wanted).mean())
    signal = float(np.square(wanted, dtype=np.float64).mean())
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(signal / noise) if noise and signal else math.inf
