"""The layers of our own that the recipes share. Normalisation comes first, so that the exported graph takes what devices acquire: pixels 0..255,
raw units; what undoes it comes last, so that it gives what people read."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_FLAT = 1e-6
"""A deviation below this share of the mean is float32's rounding."""
_MIDDLE_HALF = 1.349
"""Deviations of a Gaussian between its quartiles."""
_MASKING = 0.75
"""Standard deviations of noise that an autoencoder has to take away: without, it learns to copy, and copies anomalies as well."""
_SHRUNK = 1e-2
"""Of the mean variance is added to each: a direction without any would make every row an anomaly."""
_TINY = 1e-6
_HALF = 0.5**0.5
"""Two terms that are each 1 for a usual row."""


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
    """How unusual (batch, features) are: (batch, 1), about 1 for a usual row. While training it is the mean squared error of an autoencoder that sees
    its features with noise (Vincent et al. 2008); once it is settled, the root of the combined index (Yue & Qin 2001): the squared errors and
    the squared code, each in its own deviations, so that a row is found that is put together wrongly, and one that goes too far."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, features: int, codes: int) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.register_buffer("precision", torch.ones(1, features))
        self.register_buffer("whitening", torch.zeros(codes, codes))
        self.register_buffer("offset", torch.zeros(codes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code = self.encoder(x + _MASKING * torch.randn_like(x) if self.training else x)
        errors = (self.decoder(code) - x).square()
        if self.training:
            return errors.mean(dim=1, keepdim=True)
        far = functional.linear(code, self.whitening, self.offset).square()
        return ((errors * self.precision).mean(dim=1, keepdim=True) + far.mean(dim=1, keepdim=True)).sqrt() * _HALF

    def settle(self, x: torch.Tensor) -> None:
        """Take the deviations of errors and codes from these usual features (rows, features)."""
        with torch.inference_mode():
            code = self.encoder(x)
            errors = (self.decoder(code) - x).square().double().mean(dim=0)
        codes = code.double().numpy()
        covariance = np.atleast_2d(np.cov(codes.T, ddof=0))
        values, vectors = np.linalg.eigh(covariance)
        whitening = (vectors / np.sqrt(values.clip(0) + _SHRUNK * values.mean() + _TINY)).T
        self.precision.copy_(1 / (errors + _SHRUNK * errors.mean() + _TINY))
        self.whitening.copy_(torch.from_numpy(whitening))
        self.offset.copy_(torch.from_numpy(-whitening @ codes.mean(axis=0)))
