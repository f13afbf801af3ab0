"""The scalars that sketches follow: the same code where the reference is made and where the stream is watched."""

import numpy as np

from fleet_contract.inputs import ImageInput, VectorInput

IMAGE = ("brightness", "contrast", "sharpness", "light-x", "light-y")
OUTPUT = ("output.confidence", "output.entropy")
"""Prefixed, because real tables have columns of these names."""


def input_names(spec: ImageInput | VectorInput) -> tuple[str, ...]:
    return IMAGE if isinstance(spec, ImageInput) else tuple(spec.columns)


def of_inputs(batch: np.ndarray, spec: ImageInput | VectorInput) -> np.ndarray:
    """float32 (rows, features) of a graph input batch; for vectors the columns themselves."""
    if isinstance(spec, VectorInput):
        return np.ascontiguousarray(batch, np.float32)
    grey = batch.mean(axis=1, dtype=np.float32)
    mean = grey.mean(axis=(1, 2))
    _, height, width = grey.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    columns = (mean, grey.std(axis=(1, 2)), steps, (grey * x).mean(axis=(1, 2)), (grey * y[:, None]).mean(axis=(1, 2)))
    return np.stack(columns, axis=1).astype(np.float32)


def of_outputs(probabilities: np.ndarray) -> np.ndarray:
    """float32 (rows, 2) of class probabilities (rows, classes): the largest, and the entropy as a share of its maximum."""
    p = np.clip(probabilities, 1e-12, 1)
    entropy = -(p * np.log(p)).sum(axis=1) / np.log(p.shape[1])
    return np.stack([probabilities.max(axis=1), entropy], axis=1).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
