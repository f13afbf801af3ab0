"""The scalars that sketches follow: the same code where the reference is made and where the stream is watched. Those of outputs are made with the
answers (fleet_contract.answers)."""

from __future__ import annotations

import math
from math import prod

import numpy as np

from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.outputs import Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold
from fleet_contract.tensors import STRING

IMAGE = ("brightness", "contrast", "sharpness", "light-x", "light-y")
SHARES = ("output.confidence", "output.entropy", "output.area")
"""Output features that lie in 0..1, whatever the model. The range of any other shows in its reference's evidence."""
_WINDOW = ("mean", "deviation", "step")
_TENSOR = ("mean", "deviation")


def input_names(spec: InputSpec) -> tuple[str, ...]:
    match spec:
        case ImageInput():
            return IMAGE
        case VectorInput():
            return tuple(spec.columns)
        case WindowInput():
            return tuple(f"{column}.{figure}" for column in spec.columns for figure in _WINDOW)
        case TensorsInput():
            single = len(spec.tensors) == 1 and spec.tensors[0].dtype != STRING
            return tuple(f"{spec.tensors[0].name}.{figure}" for figure in _TENSOR) if single else ()


def output_names(output: OutputSpec) -> tuple[str, ...]:
    """Prefixed, because real tables have columns of these names."""
    match output:
        case Classification() | Threshold():
            return ("output.confidence", "output.entropy")
        case Regression():
            return tuple(f"output.{target}" for target in output.targets)
        case Anomaly():
            return ("output.score",)
        case Detection():
            return ("output.confidence", "output.boxes", "output.area")
        case Raw():
            return ("output.mean",) if any(spec.dtype != STRING for spec in output.tensors) else ()


def of_inputs(batch: np.ndarray, spec: InputSpec) -> np.ndarray:
    """float32 (rows, len(input_names(spec))) of a graph input batch, of its first tensor where there are several; for vectors the columns
    themselves."""
    match spec:
        case VectorInput():
            return np.ascontiguousarray(batch, np.float32)
        case ImageInput():
            return _of_images(batch, spec)
        case WindowInput():
            return _of_windows(batch.reshape(len(batch), spec.length, len(spec.columns)))
        case TensorsInput():
            return _of_tensor(batch) if input_names(spec) else np.empty((len(batch), 0), np.float32)


def _of_images(batch: np.ndarray, spec: ImageInput) -> np.ndarray:
    rows = np.empty((len(batch), len(IMAGE)), np.float32)
    x = np.linspace(-1, 1, spec.width, dtype=np.float32)
    y = np.linspace(-1, 1, spec.height, dtype=np.float32)
    for row, picture in zip(rows, batch, strict=True):  # one by one it stays in a core's cache, which is twice as fast
        row[:] = _of_grey(_grey(picture, spec), x, y)
    return rows


def _grey(picture: np.ndarray, spec: ImageInput) -> np.ndarray:
    """float32 (height, width): the mean of the channels."""
    planes = picture.astype(np.float32) if spec.layout == "nchw" else np.moveaxis(picture, 2, 0).astype(np.float32, order="C")
    grey = planes[0]
    for plane in planes[1:]:
        grey += plane
    if spec.channels > 1:
        grey *= np.float32(1 / spec.channels)
    return grey


def _of_grey(grey: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    columns, lines = np.add.reduce(grey, axis=0), np.add.reduce(grey, axis=1)
    mean = columns.sum() / grey.size
    light = (columns @ x / grey.size, lines @ y / grey.size)
    down, across = np.subtract(grey[1:], grey[:-1]), np.subtract(grey[:, 1:], grey[:, :-1])
    steps = [np.abs(step, out=step).sum() / max(1, step.size) for step in (down, across)]
    grey -= mean
    flat = grey.ravel()
    return mean, math.sqrt(np.vdot(flat, flat) / flat.size), steps[0] + steps[1], *light


def _of_windows(windows: np.ndarray) -> np.ndarray:
    """Of each column its mean, its standard deviation, and the mean step from sample to sample (0 in a window of one)."""
    steps = np.abs(np.diff(windows, axis=1)).sum(axis=1) / max(1, windows.shape[1] - 1)
    figures = np.stack([windows.mean(axis=1), windows.std(axis=1), steps], axis=2)
    return figures.reshape(len(windows), -1).astype(np.float32)


def _of_tensor(batch: np.ndarray) -> np.ndarray:
    flat = batch.reshape(len(batch), prod(batch.shape[1:])).astype(np.float64)
    return np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1).astype(np.float32)
