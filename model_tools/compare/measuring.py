"""How well one model does on rows, and how sure that is."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Regression
from model_tools.compare.reliability import Reliability, reliability
from model_tools.compare.statistics import Interval, bootstrap, weighted_auc, wilson
from model_tools.compare.subjects import Answered
from model_tools.data.dataset import Dataset
from model_tools.evaluate.scoring import Evaluation, Measure, score


@dataclass(frozen=True)
class Measured:
    """`right` float64 (rows,) is how well each row is answered: 1 or 0, or minus the error of an estimate. `quality` is Evaluation.quality with its
    interval. `confusion` int64 (labels, answers) and `reliability` are a classification's."""

    name: str
    classes: tuple[str, ...]
    evaluation: Evaluation
    quality: Interval
    right: np.ndarray
    confusion: np.ndarray | None
    reliability: Reliability | None


def measure(answered: Answered, rows: Dataset, units: np.ndarray, seed: int) -> Measured:
    """`units`: see slices.resampling_units. Raises BadInput for answers that are no class, estimate or score."""
    outputs, output = answered.outputs, answered.output
    found = score(outputs, rows, output, len(answered.subject.data))
    is_class = isinstance(output, Classification)
    return Measured(
        name=answered.subject.name,
        classes=rows.classes,
        evaluation=found,
        quality=_quality(found.measure, outputs, rows, output, units, seed),
        right=rightness(outputs, rows, output),
        confusion=_confusion(outputs, rows, output),
        reliability=reliability(outputs, rows.labels, output) if is_class and len(rows) else None,
    )


def rightness(outputs: np.ndarray, rows: Dataset, output: OutputSpec) -> np.ndarray:
    """float64 (rows,): 1 where the row is answered rightly and else 0, or minus the error of an estimate."""
    if isinstance(output, Regression):
        return -np.abs(estimates(outputs, output) - rows.labels)
    return (words(outputs, output) == rows.labels).astype(np.float64)


def words(outputs: np.ndarray, output: Classification | Anomaly) -> np.ndarray:
    """int64 (rows,): the class of each answer."""
    if isinstance(output, Anomaly):
        return (outputs.reshape(len(outputs), -1)[:, 0] >= output.threshold).astype(np.int64)
    return outputs.argmax(axis=1)


def estimates(outputs: np.ndarray, output: Regression) -> np.ndarray:
    """float64 (rows,), in the target's unit."""
    return outputs.reshape(len(outputs), -1)[:, 0].astype(np.float64) * output.scale[0] + output.offset[0]


def weigher(measure: Measure, outputs: np.ndarray, rows: Dataset, output: OutputSpec) -> Callable[[np.ndarray], float]:
    """The measure as a function of rows' weights."""
    if measure == "r2":
        return _r2(estimates(outputs, output), rows.labels.astype(np.float64))
    if measure == "auc":
        scores = outputs.reshape(len(outputs), -1)[:, 0]
        return lambda weights: weighted_auc(rows.labels, scores, weights)
    right, counted = rightness(outputs, rows, output), (rows.labels == 0) if measure == "passed" else np.ones(len(rows), bool)
    return lambda weights: _share(right[counted], weights[counted])


def _quality(measure: Measure, outputs: np.ndarray, rows: Dataset, output: OutputSpec, units: np.ndarray, seed: int) -> Interval:
    alone = len(units) == 0 or units.max() + 1 == len(units)
    if measure in ("accuracy", "passed") and alone:
        counted = rows.labels == 0 if measure == "passed" else np.ones(len(rows), bool)
        return wilson(int(rightness(outputs, rows, output)[counted].sum()), int(counted.sum()))
    return bootstrap(weigher(measure, outputs, rows, output), units, seed, slow=measure == "auc")


def _r2(values: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], float]:
    squared = np.square(values - labels)

    def weigh(weights: np.ndarray) -> float:
        whole = weights.sum()
        mean = (weights @ labels) / whole
        spread = weights @ np.square(labels - mean)
        return float(1 - (weights @ squared) / spread) if spread else math.nan

    return weigh


def _share(right: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ right / weights.sum()) if weights.sum() else math.nan


def _confusion(outputs: np.ndarray, rows: Dataset, output: OutputSpec) -> np.ndarray | None:
    if isinstance(output, Regression):
        return None
    count = len(rows.classes)
    return np.bincount(rows.labels * count + words(outputs, output), minlength=count * count).reshape(count, count)
