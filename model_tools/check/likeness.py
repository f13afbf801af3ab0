"""How alike rows are: every column in its own spread, extremes bounded, wide inputs projected."""

import numpy as np

_MAX_FEATURES = 64
"""Distances between projected rows are off by a few per cent (Johnson and Lindenstrauss)."""
MAX_SAMPLES = 1_024
"""Of a window, that are looked at where windows are compared."""
_MAX_VALUES = 8_192
"""Of one input: of more, some are drawn."""
_MAX_SPREADS = 5.0
_NORMAL_SPAN = 3.29
"""Standard deviations of a normal distribution between its 5 % and 95 % quantile."""

_THUMB = 8
"""Pixels on a side: what is left of a picture is alike for copies that were cropped a little, resized or compressed again."""


def features_of(inputs: np.ndarray, seed: int) -> np.ndarray:
    """float32 (rows, features), of float32 (rows, columns), (rows, length, columns) or thumbnails. Constant columns are left out."""
    axes = tuple(range(inputs.ndim - 1))
    low, middle, high = np.quantile(inputs.astype(np.float64), (0.05, 0.5, 0.95), axis=axes)
    spread = (high - low) / _NORMAL_SPAN
    # a column that hardly ever changes has no span between its quantiles, and yet may tell rows apart
    spread = np.where(spread > 0, spread, inputs.std(axis=axes, dtype=np.float64))
    varied = spread > 1e-9 * np.maximum(np.abs(middle), 1e-30)
    scaled = (inputs[..., varied] - middle[varied]) / spread[varied]
    flat = np.clip(scaled, -_MAX_SPREADS, _MAX_SPREADS).astype(np.float32).reshape(len(inputs), -1)
    return _project(flat, np.random.default_rng(seed))


def _project(flat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if flat.shape[1] > _MAX_VALUES:
        flat = flat[:, np.sort(rng.choice(flat.shape[1], _MAX_VALUES, replace=False))]
    if flat.shape[1] <= _MAX_FEATURES:
        return flat
    directions = rng.normal(0, _MAX_FEATURES**-0.5, (flat.shape[1], _MAX_FEATURES)).astype(np.float32)
    return flat @ directions


def draw(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of these, in order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def make_thumbs(pixels: np.ndarray) -> np.ndarray:
    """float32 (pictures, channels * 8 * 8): means of as equal blocks as there are, less the picture's mean, in its contrast."""
    for axis in (2, 3):
        starts = np.linspace(0, pixels.shape[axis], _THUMB, endpoint=False).astype(int)
        sizes = np.diff([*starts, pixels.shape[axis]])
        shape = [1, 1, 1, 1]
        shape[axis] = _THUMB
        pixels = np.add.reduceat(pixels, starts, axis=axis) / sizes.reshape(shape)
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / (flat.std(axis=1, keepdims=True) + 4.0)
