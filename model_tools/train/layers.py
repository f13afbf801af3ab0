"""The layers of our own that the recipes share. Normalisation comes first, so that the exported graph takes what devices acquire: pixels 0..255,
raw units; what undoes it comes last, so that it gives what people read."""

import numpy as np
import torch
from torch import nn

_FLAT = 1e-6
"""A deviation below this share of the mean is float32's rounding."""
_MIDDLE_HALF = 1.349
"""Deviations of a Gaussian between its quartiles."""
_MASKING = 0.5
"""Standard deviations of noise that an autoencoder has to take away: without, it learns to copy, and copies anomalies as well."""


class Normalisation(nn.Module):
    """(x - mean) / deviation along the axis of features, both fixed from training data; a constant column or channel is only centred.

    Of a `robust` one they are the median and what a Gaussian's deviation is of the middle half, wherever that half has a width: of a column that
    spans decades the deviation is that of a few rows, and all others would look the same."""

    def __init__(self, inputs: np.ndarray, *, robust: bool = False) -> None:
        """`inputs` float32 (rows, columns), (rows, length, columns) or (rows, channels, height, width)."""
        super().__init__()
        axis = 1 if inputs.ndim in (2, 4) else 2
        others = tuple(i for i in range(inputs.ndim) if i != axis)
        mean = inputs.mean(axis=others, dtype=np.float64, keepdims=True)
        deviation = inputs.std(axis=others, dtype=np.float64, keepdims=True)
        if robust and len(inputs):
            low, middle, high = np.quantile(inputs.astype(np.float64), (0.25, 0.5, 0.75), axis=others, keepdims=True)
            wide = ~_is_flat(high - low, middle)
            mean, deviation = np.where(wide, middle, mean), np.where(wide, (high - low) / _MIDDLE_HALF, deviation)
        flat = _is_flat(deviation, mean)
        scale = np.where(flat, 1.0, 1 / np.where(flat, 1, deviation))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) * self.scale


def _is_flat(spread: np.ndarray, middle: np.ndarray) -> np.ndarray:
    return spread <= _FLAT * np.maximum(np.abs(middle), 1e-30)


class Denormalisation(nn.Module):
    """z * deviation + mean of a regression's target, so that the graph's answer is in its unit."""

    def __init__(self, targets: np.ndarray) -> None:
        """`targets` float32 (rows,)."""
        super().__init__()
        deviation = float(targets.std(dtype=np.float64)) if len(targets) else 0.0
        self.register_buffer("scale", torch.tensor([[deviation or 1.0]], dtype=torch.float32))
        self.register_buffer("mean", torch.tensor([[float(targets.mean(dtype=np.float64)) if len(targets) else 0.0]], dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.mean


class Tails(nn.Module):
    """asinh: near the mean the value itself, far out its logarithm, so that one outlier moves neither a layer nor an int8 scale."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.asinh(x)


class Swap(nn.Module):
    """(batch, length, columns) to (batch, columns, length), as convolutions want it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class Reconstruction(nn.Module):
    """The mean squared difference of (batch, features) from what `coder` makes of it: (batch, 1), the higher the less usual. While training, the
    coder sees the features with noise (Vincent et al. 2008)."""

    def __init__(self, coder: nn.Module) -> None:
        super().__init__()
        self.coder = coder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x + _MASKING * torch.randn_like(x) if self.training else x
        return (self.coder(seen) - x).square().mean(dim=1, keepdim=True)
