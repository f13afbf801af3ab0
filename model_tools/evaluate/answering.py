"""From what a model says of validation rows to how its answers are read: temperature, threshold."""

import numpy as np

from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Regression
from model_tools.data.dataset import Dataset
from model_tools.task import Task

_NORMAL_SHARE = 0.99
"""Of the normal validation rows so many pass."""


def fit_answer(task: Task, tensor: str, outputs: np.ndarray, validation: Dataset) -> OutputSpec:
    """`outputs` float32 (rows, ...) are those of the float model for `validation`, in its order."""
    match task.kind:
        case "classification":
            return Classification(tensor=tensor, classes=list(validation.classes))
        case "regression":
            return Regression(tensor=tensor, targets=[task.target], scale=[1.0], offset=[0.0], units=[task.output.unit])
        case "anomaly":
            normal = outputs.ravel()[validation.labels == 0]
            return Anomaly(tensor=tensor, threshold=float(np.quantile(normal, _NORMAL_SHARE)))
