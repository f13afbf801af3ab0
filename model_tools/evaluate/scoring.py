"""Scores of one model, and of two against each other."""

import math
from dataclasses import dataclass

import numpy as np

from model_tools.data.dataset import Dataset
from model_tools.running import logits as run


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` and `per_class` are shares of rows answered rightly, 0..1 (a class without rows has none; no rows at all: accuracy NaN).
    `logits` float32 (rows, classes); `model_bytes` the file's size."""

    accuracy: float
    per_class: dict[str, float]
    logits: np.ndarray
    rows: int
    model_bytes: int


@dataclass(frozen=True)
class Comparison:
    """Of a quantized model with its original on the same rows: the share of equal answers, the signal-to-quantization-noise ratio of
    the logits in dB (infinite when equal), and the accuracy lost."""

    agreement: float
    sqnr_db: float
    accuracy_drop: float


def evaluate(onnx_bytes: bytes, rows: Dataset) -> Evaluation:
    """Raises Failed when the model does not run on these rows."""
    logits = run(onnx_bytes, rows.inputs)
    right = logits.argmax(axis=1) == rows.labels
    present = np.unique(rows.labels)
    per_class = {rows.classes[c]: float(right[rows.labels == c].mean()) for c in present}
    return Evaluation(float(right.mean()) if len(right) else math.nan, per_class, logits, len(rows), len(onnx_bytes))


def compare(original: Evaluation, quantized: Evaluation) -> Comparison:
    """Both are evaluations of the same rows."""
    equal = original.logits.argmax(axis=1) == quantized.logits.argmax(axis=1)
    noise = float(np.square(original.logits - quantized.logits, dtype=np.float64).mean())
    signal = float(np.square(original.logits, dtype=np.float64).mean())
    sqnr_db = 10 * math.log10(signal / noise) if noise and signal else math.inf
    return Comparison(float(equal.mean()), sqnr_db, original.accuracy - quantized.accuracy)
