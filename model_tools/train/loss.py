"""What a training makes small: cross entropy, a robust squared error in the target's deviations, or the reconstruction error."""

from collections.abc import Callable
from functools import partial

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
            return _cross_entropy(_weights(rows), smoothing) if balanced else partial(functional.cross_entropy, label_smoothing=smoothing)
        case "regression":
            unit = float(rows.labels.std(dtype=np.float64)) or 1.0
            return lambda answers, labels: functional.huber_loss(answers[:, 0] / unit, labels / unit, delta=_FAR)
        case "anomaly":
            return lambda answers, labels: answers.mean()


def _cross_entropy(weights: torch.Tensor, smoothing: float) -> Loss:
    """Each row counts as its class does. torch's own `weight` weighs smoothed labels by their classes, too: with a class of 2 % what little is
    smoothed towards it is more than the label itself, and every row becomes that class."""

    def loss(answers: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (
            functional.cross_entropy(answers, labels, label_smoothing=smoothing, reduction="none") * weights.to(answers.device)[labels]
        ).mean()

    return loss


def _weights(rows: Dataset) -> torch.Tensor:
    counts = np.bincount(rows.labels, minlength=len(rows.classes))
    return torch.tensor(len(rows) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1)), dtype=torch.float32)
