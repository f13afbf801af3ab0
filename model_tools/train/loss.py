"""What a training makes small: cross entropy, a robust squared error in the target's deviations, or the reconstruction error."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from model_tools.data.dataset import Dataset
from model_tools.sections import TaskKind

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(answers, labels) to a scalar."""

_LABEL_SMOOTHING = 0.05
_FAR = 3.0
"""Deviations from which on an error counts linearly (Huber 1964): a few wild targets do not decide."""


def loss_for(kind: TaskKind, rows: Dataset, *, balanced: bool = False, smoothing: float = _LABEL_SMOOTHING) -> Loss:
    """`balanced`: each class counts alike, however many `rows` it has."""
    match kind:
        case "classification":
            weights = _weights(rows) if balanced else None
            return lambda answers, labels: functional.cross_entropy(
                answers, labels, weight=None if weights is None else weights.to(answers.device), label_smoothing=smoothing
            )
        case "regression":
            unit = float(rows.labels.std(dtype=np.float64)) or 1.0
            return lambda answers, labels: functional.huber_loss(answers[:, 0] / unit, labels / unit, delta=_FAR)
        case "anomaly":
            return lambda answers, labels: answers.mean()


def _weights(rows: Dataset) -> torch.Tensor:
    counts = np.bincount(rows.labels, minlength=len(rows.classes))
    return torch.tensor(len(rows) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1)), dtype=torch.float32)
