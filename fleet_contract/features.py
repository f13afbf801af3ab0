"""The scalars that sketches follow: the same code where the reference is made and where the stream is watched. Those of outputs are made with the
answers (fleet_contract.answers)."""

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
    grey = batch.mean(axis=1 if spec.layout == "nchw" else 3, dtype=np.float32)
    mean = grey.mean(axis=(1, 2))
    _, height, width = grey.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    columns = (mean, grey.std(axis=(1, 2)), steps, (grey * x).mean(axis=(1, 2)), (grey * y[:, None]).mean(axis=(1, 2)))
    return np.stack(columns, axis=1).astype(np.float32)


def _of_windows(windows: np.ndarray) -> np.ndarray:
    """Of each column its mean, its standard deviation, and the mean step from sample to sample (0 in a window of one)."""
    steps = np.abs(np.diff(windows, axis=1)).sum(axis=1) / max(1, windows.shape[1] - 1)
    figures = np.stack([windows.mean(axis=1), windows.std(axis=1), steps], axis=2)
    return figures.reshape(len(windows), -1).astype(np.float32)


def _of_tensor(batch: np.ndarray) -> np.ndarray:
    flat = batch.reshape(len(batch), prod(batch.shape[1:])).astype(np.float64)
    return np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1).astype(np.float32)
