"""From what a model says of validation rows to how its answers are read: temperature, threshold."""

import math

import numpy as np

from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Regression
from model_tools.data.dataset import Dataset
from model_tools.errors import BadData
from model_tools.evaluate.shape import check_answers
from model_tools.task import Task

_NORMAL_SHARE = 0.99
"""Of the normal validation rows so many pass."""
_HOTTEST = 16.0
_PRIOR_SPREAD = math.log(2)
"""Of the logarithm of a temperature around 0, a Gaussian's: rows that are all answered rightly would ask for certainty without bound."""
_STEPS = 60
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit_answer(task: Task, tensor: str, outputs: np.ndarray, validation: Dataset) -> OutputSpec:
    """`outputs` float32 (rows, ...) are those of the float model for `validation`, in its order. Raises BadInput for outputs of another shape, BadData where no
    validation row is normal."""
    check_answers(outputs, len(validation), len(validation.classes) if task.kind == "classification" else 0)
    match task.kind:
        case "classification":
            temperature = fit_temperature(outputs, validation.labels) if task.train.calibrate else 1.0
            return Classification(tensor=tensor, classes=list(validation.classes), temperature=temperature)
        case "regression":
            return Regression(tensor=tensor, targets=[task.target], scale=[1.0], offset=[0.0], units=[task.output.unit])
        case "anomaly":
            return Anomaly(tensor=tensor, threshold=fit_threshold(outputs.ravel(), validation.labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """By which logits (rows, classes) are to be divided so that confidences are frequencies (Guo et al. 2017): the likeliest under a prior
    around 1, to three digits. 1 where no row is given."""
    if not len(labels):
        return 1.0
    logits = logits.astype(np.float64)
    right = logits[np.arange(len(labels)), labels]

    def cost(log: float) -> float:
        scaled = logits / math.exp(log)
        top = scaled.max(axis=1)
        normaliser = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((normaliser - right / math.exp(log)).sum()) + 0.5 * (log / _PRIOR_SPREAD) ** 2

    return float(f"{math.exp(_least(cost, -math.log(_HOTTEST), math.log(_HOTTEST))):.3g}")


def fit_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The score from which on a row is an anomaly: above that of so many normal rows. Raises BadData without one."""
    normal = scores[labels == 0]
    if not len(normal):
        raise BadData("no validation row is normal: there is no threshold to be found", field="split.validation", limit=1)
    threshold = np.float32(np.quantile(normal.astype(np.float64), _NORMAL_SHARE))
    # a score at the threshold is an anomaly: of scores that are all alike none should be
    return float(np.nextafter(threshold, np.float32(np.inf)))


def _least(cost, low: float, high: float) -> float:
    """Golden-section search; the cost has one minimum."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = cost(a), cost(b)
    for _ in range(_STEPS):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = cost(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = cost(b)
    return (low + high) / 2
