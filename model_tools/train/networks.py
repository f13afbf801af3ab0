"""The networks of the recipes, each a flat sequence whose first layer normalises raw input. `outputs` is the width of the last layer."""

import numpy as np
from torch import nn

from model_tools.train.layers import Normalisation, Reconstruction, Swap, Tails

_SMALLEST_MAP = 8
_WIDEST = 128
_DROPOUT = 0.2
_VECTOR_DROPOUT = 0.1
_LONG = 512
"""Samples: recordings of sound; their first convolution takes four steps at once."""


def make_image_network(inputs: np.ndarray, outputs: int, width: int) -> nn.Sequential:
    """A small CNN for (rows, channels, height, width): halves the map, doubling channels, until a side is at most 8."""
    channels, *size = inputs.shape[1:]
    stride = _first_stride(size)
    layers = [Normalisation(inputs), *_convolution(channels, width, kernel=5, stride=stride)]
    size = _divided(size, stride)
    for stride in _strides(size):
        wider = min(2 * width, _WIDEST)
        layers += [*_convolution(width, wider, stride=stride), *_convolution(wider, wider)]
        width, size = wider, _divided(size, stride)
    return nn.Sequential(*layers, *_head(width, size, outputs))


def make_mobile_network(inputs: np.ndarray, outputs: int, width: int) -> nn.Sequential:
    """As the small CNN, of depthwise separable convolutions (Howard et al. 2017): a third of its weights and operations."""
    channels, *size = inputs.shape[1:]
    stride = _first_stride(size)
    layers = [Normalisation(inputs), *_convolution(channels, width, kernel=5, stride=stride), *_separable(width, 2 * width)]
    width, size = 2 * width, _divided(size, stride)
    for stride in _strides(size):
        wider = min(2 * width, 2 * _WIDEST)
        layers += [*_separable(width, wider, stride=stride), *_separable(wider, wider)]
        width, size = wider, _divided(size, stride)
    return nn.Sequential(*layers, *_head(width, size, outputs))


def make_vector_network(inputs: np.ndarray, outputs: int, width: int) -> nn.Sequential:
    """A perceptron of two hidden layers for (rows, columns)."""
    hidden = [nn.Linear(inputs.shape[1], width), nn.ReLU(), nn.Dropout(_VECTOR_DROPOUT), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(Normalisation(inputs, robust=True), Tails(), *hidden, nn.Linear(width, outputs))


def make_window_network(inputs: np.ndarray, outputs: int, width: int) -> nn.Sequential:
    """Convolutions along (rows, length, columns): halves the length, doubling channels, until it is at most 8. Where in the window something
    was still counts."""
    _, length, columns = inputs.shape
    stride = 4 if length > _LONG else 1
    layers = [Normalisation(inputs, robust=True), Tails(), Swap(), *_steps(columns, width, kernel=4 * stride + 1, stride=stride)]
    length = -(-length // stride)
    while length > _SMALLEST_MAP:
        stride = 4 if length > _LONG else 2
        wider = min(2 * width, _WIDEST)
        layers += _steps(width, wider, kernel=2 * stride + 1, stride=stride)
        width, length = wider, -(-length // stride)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(_DROPOUT), nn.Linear(width * length, outputs))


def make_autoencoder(inputs: np.ndarray, width: int) -> nn.Sequential:
    """The score (batch, 1) of vectors or flattened windows: how far they are from what a narrow perceptron can tell again."""
    features = int(np.prod(inputs.shape[1:]))
    codes = max(1, min(width // 4, features // 4))
    encoder = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, codes))
    decoder = nn.Sequential(nn.Linear(codes, width), nn.ReLU(), nn.Linear(width, features))
    front = [Normalisation(inputs, robust=True), Tails(), nn.Flatten()]
    return nn.Sequential(*front, Reconstruction(encoder, decoder, features, codes))


def _first_stride(size: list[int]) -> int:
    """Small pictures have no pixel to spare."""
    return 2 if min(size) > 2 * _SMALLEST_MAP else 1


def _strides(size: list[int]) -> list[int]:
    """Of the stages after the first convolution: one at least, which halves only what is large."""
    strides = []
    while min(size) > _SMALLEST_MAP:
        strides.append(2)
        size = _divided(size, 2)
    return strides or [1]


def _divided(size: list[int], stride: int) -> list[int]:
    return [-(-side // stride) for side in size]


def _head(width: int, size: list[int], outputs: int) -> list[nn.Module]:
    pooled = [side // 2 for side in size] if min(size) > 1 else size
    pool = [nn.AvgPool2d(2)] if pooled != size else []
    return [*pool, nn.Flatten(), nn.Dropout(_DROPOUT), nn.Linear(width * pooled[0] * pooled[1], outputs)]


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def _separable(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [*_convolution(inputs, inputs, stride=stride, groups=inputs), *_convolution(inputs, outputs, kernel=1)]


def _steps(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm1d(outputs), nn.ReLU()]
