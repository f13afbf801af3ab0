"""Scores of one model, and of two against each other."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Regression
from model_tools.data.dataset import Dataset
from model_tools.errors import BadInput
from model_tools.evaluate.noise import sqnr_db
from model_tools.evaluate.shape import check_answers
from model_tools.running import logits as run

Measure = Literal["accuracy", "r2", "auc", "passed"]
_ALIKE_DEVIATIONS = 0.1
"""Two estimates that are no further apart, in standard deviations of all estimates, agree."""


@dataclass(frozen=True)
class Evaluation:
    """`quality` is the `measure` that gates look at, at most 1, NaN without rows: the share of rows answered rightly; R² (1 - squared error by
    variance); the area under the ROC curve; or, where no anomaly is known, the share of normal rows that pass. `metrics` are that and the others
    of its kind. `per_class` are shares of rows answered rightly (a class without rows has none; a regression has none). `outputs` float32
    (rows, ...) as the graph gives them; `model_bytes` the file's size."""

    quality: float
    measure: Measure
    metrics: dict[str, float]
    per_class: dict[str, float]
    outputs: np.ndarray = field(repr=False)
    rows: int
    model_bytes: int


@dataclass(frozen=True)
class Comparison:
    """Of a quantized model with its original on the same rows: the share of equal answers (of a regression: of those within a tenth of a standard
    deviation), the signal-to-quantization-noise ratio of the outputs in dB (infinite when equal), and the quality lost."""

    agreement: float
    sqnr_db: float
    quality_drop: float


def evaluate(onnx_bytes: bytes, rows: Dataset, output: OutputSpec) -> Evaluation:
    """Raises BadInput when the model does not run on these rows, or answers otherwise than by a class, an estimate or a score."""
    return score(run(onnx_bytes, rows.inputs), rows, output, len(onnx_bytes))


def score(outputs: np.ndarray, rows: Dataset, output: OutputSpec, model_bytes: int) -> Evaluation:
    """Of what a model said of these rows, whatever ran it. Raises BadInput for outputs of another shape."""
    check_answers(outputs, len(rows), len(output.classes) if isinstance(output, Classification) else 0)
    match output:
        case Classification():
            measure, metrics, per_class = _classified(outputs, rows)
        case Regression():
            measure, metrics, per_class = _estimated(_values(outputs, output), rows)
        case Anomaly():
            measure, metrics, per_class = _scored(outputs.ravel(), rows, output.threshold)
        case _:
            raise BadInput(f"the workbench does not score answers of kind {type(output).__name__.lower()!r}", field="output")
    return Evaluation(metrics[measure], measure, metrics, per_class, outputs, len(rows), model_bytes)


def compare(original: Evaluation, quantized: Evaluation, output: OutputSpec) -> Comparison:
    """Both are evaluations of the same rows."""
    agreed = _agreed(original.outputs, quantized.outputs, output)
    return Comparison(float(agreed.mean()), sqnr_db(original.outputs, quantized.outputs), original.quality - quantized.quality)


def _agreed(one: np.ndarray, other: np.ndarray, output: OutputSpec) -> np.ndarray:
    match output:
        case Classification():
            return one.argmax(axis=1) == other.argmax(axis=1)
        case Anomaly():
            return ((one >= output.threshold) == (other >= output.threshold)).ravel()
        case _:
            return (np.abs(one - other) <= _ALIKE_DEVIATIONS * one.std()).ravel()


def _classified(outputs: np.ndarray, rows: Dataset) -> tuple[Measure, dict[str, float], dict[str, float]]:
    right = outputs.argmax(axis=1) == rows.labels
    per_class = _shares(right, rows)
    recall = float(np.mean([*per_class.values()])) if per_class else math.nan
    return "accuracy", {"accuracy": _mean(right), "balanced_accuracy": recall}, per_class


def _estimated(values: np.ndarray, rows: Dataset) -> tuple[Measure, dict[str, float], dict[str, float]]:
    errors = values.astype(np.float64) - rows.labels
    spread = float(np.square(rows.labels - rows.labels.mean(), dtype=np.float64).mean()) if len(rows) else math.nan
    squared = _mean(np.square(errors))
    return "r2", {"r2": 1 - squared / spread if spread else math.nan, "mae": _mean(np.abs(errors)), "rmse": math.sqrt(squared)}, {}


def _scored(scores: np.ndarray, rows: Dataset, threshold: float) -> tuple[Measure, dict[str, float], dict[str, float]]:
    from sklearn.metrics import roc_auc_score  # a second to import, for this kind of task alone

    found = scores >= threshold
    per_class = _shares(found == rows.labels, rows)
    metrics = {"passed": _mean(~found[rows.labels == 0])}
    if len(np.unique(rows.labels)) < 2:
        return "passed", metrics, per_class
    hits = int((found & (rows.labels == 1)).sum())
    metrics["auc"] = float(roc_auc_score(rows.labels, scores))
    metrics["precision"] = hits / int(found.sum()) if found.any() else math.nan
    metrics["recall"] = hits / int(rows.labels.sum())
    return "auc", metrics, per_class


def _values(outputs: np.ndarray, output: Regression) -> np.ndarray:
    return outputs[:, 0] * output.scale[0] + output.offset[0]


def _shares(right: np.ndarray, rows: Dataset) -> dict[str, float]:
    return {rows.classes[c]: float(right[rows.labels == c].mean()) for c in np.unique(rows.labels)}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
