"""Generic variations of sensor rows: a little noise, and cells swapped with other rows so that no single sensor is trusted blindly."""

import torch

from model_tools.sections import Augment

_NOISE = {"mild": 0.05, "strong": 0.1}
"""In standard deviations of the column."""
_SWAPPED = {"mild": 0.0, "strong": 0.1}
"""Share of cells (Vincent et al. 2008, denoising by swap noise)."""


def vary(batch: torch.Tensor, level: Augment, deviation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """float32 (rows, columns) in raw units; `deviation` (1, columns)."""
    if level == "none":
        return batch
    if share := _SWAPPED[level]:
        other = torch.randint(len(batch), batch.shape, generator=generator)
        swap = torch.rand(batch.shape, generator=generator) < share
        batch = torch.where(swap, batch.gather(0, other), batch)
    return batch + torch.randn(batch.shape, generator=generator) * deviation * _NOISE[level]
