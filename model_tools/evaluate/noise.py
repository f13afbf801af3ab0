"""How far one model's answers are from another's."""

import math

import numpy as np


def sqnr_db(wanted: np.ndarray, answered: np.ndarray) -> float:
    """Signal to quantization noise, the energy of the right answers over that of the differences: infinite where there are none, minus infinity
    for answers that are not finite. Both of one shape."""
    noise = float(np.square(wanted.astype(np.float64) - answered).sum())
    if not math.isfinite(noise):
        return -math.inf
    signal = float(np.square(wanted, dtype=np.float64).sum())
    return 10 * math.log10(signal / noise) if noise and signal else math.inf
