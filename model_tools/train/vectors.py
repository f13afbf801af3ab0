"""Generic variations of sensor rows and windows: a little noise. Swapping cells between rows was measured too; it cost accuracy on old data."""

import torch

from model_tools.sections import Augment

_NOISE: dict[Augment, float] = {"none": 0.0, "mild": 0.05, "strong": 0.1}
"""In standard deviations of the column."""


def vary(batch: torch.Tensor, level: Augment, deviation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """float32 (rows, columns) or (rows, length, columns) in raw units; `deviation` broadcasts over them."""
    return batch + torch.randn(batch.shape, generator=generator) * deviation * _NOISE[level]
