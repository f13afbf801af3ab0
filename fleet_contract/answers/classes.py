"""From logits to classes: probabilities, the likeliest, and whether to abstain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fleet_contract.answers.detail import Ranking
from fleet_contract.answers.rows import Answers
from fleet_contract.outputs import Abstention, Classification, Threshold

_LEAST = 1e-12


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1, small) / (1 + small)


def activate(logits: np.ndarray, activation: str) -> np.ndarray:
    """As the manifest names it: softmax along the last axis, sigmoid, or none."""
    if activation == "softmax":
        return softmax(logits)
    return sigmoid(logits) if activation == "sigmoid" else logits


def probabilities_of(output: Classification, logits: np.ndarray) -> np.ndarray:
    """(rows, classes): calibrated by the temperature, then activated."""
    return activate(logits if output.temperature == 1 else logits / np.float32(output.temperature), output.activation)


def classify(output: Classification, logits: np.ndarray) -> Answers:
    """The likeliest class, the first of equals; the margin is its lead over the second."""
    probabilities = probabilities_of(output, logits)
    best, rows = probabilities.argmax(axis=1), np.arange(len(probabilities))
    values = probabilities[rows, best]
    others = probabilities.copy()
    others[rows, best] = -np.inf
    abstained = _abstain(values, output.abstain)
    features = np.stack([values, _entropy(output, probabilities)], axis=1)
    return Answers(
        labels=_labels([output.classes[at] for at in best.tolist()], abstained, output.abstain),
        values=values.tolist(),
        margins=(values - others.max(axis=1)).tolist(),
        abstained=abstained,
        details=_rank(output, probabilities) if output.top_k > 1 else [None] * len(rows),
        features=features.astype(np.float32, copy=False),
    )


def decide(output: Threshold, logits: np.ndarray) -> Answers:
    """The margin is the probability's distance from the threshold."""
    logits = logits.reshape(len(logits))
    second = activate(logits if output.temperature == 1 else logits / np.float32(output.temperature), output.activation)
    above = second >= output.threshold
    values = np.where(above, second, 1 - second)
    abstained = _abstain(values, output.abstain)
    shares = np.stack([1 - second, second], axis=1)
    features = np.stack([values, _categorical_entropy(shares)], axis=1)
    return Answers(
        labels=_labels([output.labels[at] for at in above.astype(int).tolist()], abstained, output.abstain),
        values=values.tolist(),
        margins=np.abs(second - output.threshold).tolist(),
        abstained=abstained,
        details=[None] * len(abstained),
        features=features.astype(np.float32, copy=False),
    )


def _abstain(values: np.ndarray, rule: Abstention | None) -> list[bool]:
    return [False] * len(values) if rule is None else (values < rule.below).tolist()


def _labels(labels: list[str], abstained: Sequence[bool], rule: Abstention | None) -> list[str | None]:
    if rule is None:
        return [*labels]
    return [rule.fallback if unsure else label for label, unsure in zip(labels, abstained, strict=True)]


def _rank(output: Classification, probabilities: np.ndarray) -> list[Ranking]:
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : output.top_k]
    values = np.take_along_axis(probabilities, order, axis=1)
    return [Ranking([output.classes[at] for at in places], told) for places, told in zip(order.tolist(), values.tolist(), strict=True)]


def _entropy(output: Classification, probabilities: np.ndarray) -> np.ndarray:
    """(rows,) as a share of its maximum; of independent classes the mean of theirs."""
    if output.activation != "sigmoid":
        return _categorical_entropy(probabilities)
    p = np.clip(probabilities, _LEAST, 1 - 1e-7)
    return (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).mean(axis=1)


def _categorical_entropy(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities, _LEAST, 1)
    return np.minimum(-(p * np.log(p)).sum(axis=1) / np.log(p.shape[1]), 1)
