"""Generic variations of pictures: turns, shifts, scales, shears, blur, light and noise. No task's own knowledge, no flips.

Strong is meant for a challenger: every way in which a camera commonly changes, wider than one such change.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from model_tools.sections import Augment

_REFERENCE_SIDE = 64
_MOST_SIGMA = 6.0


@dataclass(frozen=True)
class Strength:
    """Half-widths of uniform draws: `turn` degrees, `scale` and `light` in natural logarithm, `shift` and `shear` as shares of the side.
    `blur` is the largest sigma in pixels of a 64-pixel side, `gradient` the largest light fall-off to each side, `noise` in grey levels."""

    turn: float
    scale: float
    shift: float
    shear: float = 0.0
    light: float = 0.1
    contrast: float = 0.1
    blur: float = 0.0
    gradient: float = 0.0
    noise: float = 0.0


_MILD = Strength(turn=8, scale=0.08, shift=0.05)
_STRONG = Strength(turn=35, scale=0.2, shift=0.1, shear=0.2, light=0.4, contrast=0.4, blur=3.0, gradient=0.6, noise=10)
_MILD_SHARE = 0.25
"""Of the strong level: the world before the change stays in view."""


def vary(batch: torch.Tensor, level: Augment, generator: torch.Generator) -> torch.Tensor:
    """float32 (rows, channels, height, width), 0..255, each row varied by its own draws."""
    if level == "none":
        return batch
    if level == "mild":
        return _vary(batch, _MILD, generator)
    mild = int(_MILD_SHARE * len(batch))
    return torch.cat([_vary(batch[:mild], _MILD, generator), _vary(batch[mild:], _STRONG, generator)])


def _vary(batch: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    if not len(batch):
        return batch
    moved = _move(batch, strength, generator)
    if strength.blur:
        on = torch.rand(len(batch), generator=generator) < 0.5
        moved[on] = _blur(moved[on], strength.blur, generator)
    lit = _light(moved, strength, generator)
    if strength.noise:
        amount = _draw(len(batch), 0, strength.noise, generator)
        lit = lit + torch.randn(lit.shape, generator=generator) * amount[:, None, None, None]
    return lit.clamp(0, 255)


def _move(batch: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    rows = len(batch)
    angle = _draw(rows, -strength.turn, strength.turn, generator) * math.pi / 180
    scale = torch.exp(_draw(rows, -strength.scale, strength.scale, generator))
    shear = _draw(rows, -strength.shear, strength.shear, generator)
    # affine_grid measures in half sides
    right, down = (_draw(rows, -2 * strength.shift, 2 * strength.shift, generator) for _ in range(2))
    aspect = batch.shape[3] / batch.shape[2]
    top = torch.stack([angle.cos() * scale, (shear - angle.sin() * scale) / aspect, right], dim=1)
    bottom = torch.stack([angle.sin() * scale * aspect, angle.cos() * scale, down], dim=1)
    grid = functional.affine_grid(torch.stack([top, bottom], dim=1), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _blur(batch: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Separable Gaussian, one sigma a row."""
    rows, channels, height, width = batch.shape
    if not rows:
        return batch
    most = min(_MOST_SIGMA, most * min(height, width) / _REFERENCE_SIDE)
    sigma = _draw(rows, min(0.4, most), most, generator)
    radius = max(1, math.ceil(2 * most))
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernels = torch.exp(-(at**2) / (2 * sigma[:, None] ** 2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = functional.pad(batch, (radius,) * 4, mode="replicate").reshape(1, rows * channels, height + 2 * radius, width + 2 * radius)
    flat = functional.conv2d(flat, kernels[:, None, None, :], groups=rows * channels)
    flat = functional.conv2d(flat, kernels[:, None, :, None], groups=rows * channels)
    return flat.reshape(batch.shape)


def _light(batch: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    rows, _, height, width = batch.shape
    light, contrast = (torch.exp(_draw(rows, -s, s / 2, generator)) for s in (strength.light, strength.contrast))
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    lit = (batch - mean) * (contrast * light)[:, None, None, None] + mean * light[:, None, None, None]
    if strength.gradient:
        angle, slope = _draw(rows, 0, 2 * math.pi, generator), _draw(rows, 0, strength.gradient, generator)
        down, across = torch.linspace(-1, 1, height)[None, :, None], torch.linspace(-1, 1, width)[None, None, :]
        field = angle.cos()[:, None, None] * across + angle.sin()[:, None, None] * down
        lit = lit * (1 + slope[:, None, None] * field)[:, None]
    return lit


def _draw(rows: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(rows, generator=generator) * (high - low) + low
