"""From outputs that are figures: regression values, anomaly scores, and outputs that mean nothing to us."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from fleet_contract.answers.detail import Targets
from fleet_contract.answers.rows import Answers
from fleet_contract.inputs import ImageInput, InputSpec
from fleet_contract.outputs import ANOMALY, NORMAL, Anomaly, Raw, Regression
from fleet_contract.signature import inputs_of
from fleet_contract.tensors import STRING


def scale(output: Regression, raw: np.ndarray) -> Answers:
    values = raw.astype(np.float64) * output.scale + output.offset
    rows, several = values.tolist(), len(output.targets) > 1
    return Answers(
        labels=[None] * len(rows),
        values=[row[0] for row in rows],
        margins=[0.0] * len(rows),
        abstained=[False] * len(rows),
        details=[Targets(dict(zip(output.targets, row, strict=True))) if several else None for row in rows],
        features=values.astype(np.float32),
    )


def score(output: Anomaly, given: InputSpec, inputs: Mapping[str, np.ndarray], raw: np.ndarray) -> Answers:
    """The margin is the score's distance from the threshold."""
    scores = _flat(raw)[:, 0] if output.score == "value" else _reconstruction_error(given, inputs, raw)
    above = (scores >= output.threshold).tolist()
    return Answers(
        labels=[ANOMALY if high else NORMAL for high in above],
        values=scores.tolist(),
        margins=np.abs(scores - output.threshold).tolist(),
        abstained=[False] * len(above),
        details=[None] * len(above),
        features=scores.reshape(-1, 1).astype(np.float32, copy=False),
    )


def tell(output: Raw, outputs: Mapping[str, np.ndarray]) -> Answers:
    """The mean of the first output that has one."""
    rows = len(outputs[output.tensors[0].name])
    figures = [outputs[spec.name] for spec in output.tensors if spec.dtype != STRING]
    means = _flat(figures[0]).mean(axis=1, dtype=np.float64) if figures else np.zeros((rows, 0))
    return Answers(
        labels=[None] * rows,
        values=means.tolist() if figures else [0.0] * rows,
        margins=[0.0] * rows,
        abstained=[False] * rows,
        details=[None] * rows,
        features=means.reshape(rows, 1 if figures else 0).astype(np.float32),
    )


def _reconstruction_error(given: InputSpec, inputs: Mapping[str, np.ndarray], raw: np.ndarray) -> np.ndarray:
    """float64 (rows,), against what the graph was fed with: a picture's pixels are scaled on their way to it."""
    fed = inputs[inputs_of(given)[0].name]
    if isinstance(given, ImageInput):
        fed = np.float32(given.scale) * fed + np.float32(given.offset)
    return np.square(_flat(raw) - _flat(fed), dtype=np.float64).mean(axis=1)


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), prod(values.shape[1:]))
