"""How far a quantized model's answers are from the float model's."""

from model_tools.evaluate.noise import sqnr_db
from model_tools.quantize.calibration import Calibration
from model_tools.quantize.observing import run_rows

_ROWS = 512


def signal_to_noise(calibration: Calibration, model: bytes, rows: int = _ROWS) -> float:
    """Of the worst output on the first `rows` calibration rows, in dB; infinite when equal, minus infinity for answers that are not finite."""
    fixed = calibration.graph.fixed_rows
    rows = max(rows - rows % fixed, fixed) if fixed else rows
    told = run_rows(model, calibration.rows[:rows], fixed)
    return min(sqnr_db(wanted[:rows], answered) for wanted, answered in zip(calibration.answered, told, strict=True))
