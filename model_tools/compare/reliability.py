"""Whether a classifier is as often right as it says."""

from dataclasses import dataclass

import numpy as np

from fleet_contract.outputs import Classification

_BINS = 15
_LEAST = 1e-12


@dataclass(frozen=True)
class Reliability:
    """`ece` is the expected calibration error (Guo et al. 2017) over 15 bins of equal width, `nll` the mean negative log likelihood, `brier` the mean
    squared difference of all probabilities. A bin has its mean `confidence`, the `accuracy` of its rows and their number."""

    ece: float
    nll: float
    brier: float
    confidence: list[float]
    accuracy: list[float]
    rows: list[int]


def reliability(outputs: np.ndarray, labels: np.ndarray, output: Classification) -> Reliability:
    """Of `outputs` (rows, classes) as the graph gives them; `labels` int64 (rows,)."""
    chances = probabilities(outputs, output)
    top, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    bins = np.minimum((top * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    filled = np.flatnonzero(counts)
    confidence = np.bincount(bins, top, _BINS)[filled] / counts[filled]
    accuracy = np.bincount(bins, right, _BINS)[filled] / counts[filled]
    own = chances[np.arange(len(labels)), labels]
    one_hot = np.eye(chances.shape[1])[labels]
    return Reliability(
        ece=float((np.abs(confidence - accuracy) * counts[filled]).sum() / max(1, len(labels))),
        nll=float(-np.log(np.maximum(own, _LEAST)).mean()),
        brier=float(np.square(chances - one_hot).sum(axis=1).mean()),
        confidence=confidence.tolist(),
        accuracy=accuracy.tolist(),
        rows=counts[filled].tolist(),
    )


def probabilities(outputs: np.ndarray, output: Classification) -> np.ndarray:
    """float64 (rows, classes), as devices tell them; outputs without an activation are taken for probabilities already."""
    scaled = outputs.astype(np.float64) / output.temperature
    match output.activation:
        case "softmax":
            powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        case "sigmoid":
            return 1 / (1 + np.exp(-np.clip(scaled, -500, 500)))
        case _:
            return np.clip(outputs.astype(np.float64), 0, 1)
