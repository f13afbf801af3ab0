"""The networks. Normalisation is their first layer, so the exported graph takes what devices acquire: pixels 0..255, raw units."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_SMALLEST_MAP = 8
_WIDEST = 128
_DROPOUT = 0.2
_VECTOR_DROPOUT = 0.1


class Normalisation(nn.Module):
    """(x - mean) / deviation along axis 1, both fixed from training data; a constant column or channel is only centred."""

    def __init__(self, inputs: np.ndarray) -> None:
        """`inputs` float32 (rows, features, ...)."""
        super().__init__()
        axes = (0, *range(2, inputs.ndim))
        mean = inputs.mean(axis=axes, dtype=np.float64)
        deviation = inputs.std(axis=axes, dtype=np.float64)
        flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
        shape = (1, -1, *(1 for _ in axes[1:]))
        self.register_buffer("mean", torch.tensor(mean.reshape(shape), dtype=torch.float32))
        self.register_buffer(
            "scale", torch.tensor(np.where(flat, 1.0, 1 / np.where(flat, 1, deviation)).reshape(shape), dtype=torch.float32)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) * self.scale


class Tails(nn.Module):
    """asinh: near the mean the value itself, far out its logarithm, so that one outlier moves neither a layer nor an int8 scale."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.asinh(x)


def make_image_network(inputs: np.ndarray, classes: int, width: int) -> nn.Sequential:
    """A small CNN for (rows, channels, height, width): halves the map, doubling channels, until a side is at most 8. Logits (rows, classes)."""
    channels, *size = inputs.shape[1:]
    layers = [Normalisation(inputs), *_convolution(channels, width, kernel=5, stride=2)]
    size = [-(-side // 2) for side in size]
    while min(size) > _SMALLEST_MAP:
        wider = min(2 * width, _WIDEST)
        layers += [*_convolution(width, wider, stride=2), *_convolution(wider, wider)]
        width, size = wider, [-(-side // 2) for side in size]
    if min(size) > 1:
        layers.append(nn.AvgPool2d(2))
        size = [side // 2 for side in size]
    layers += [nn.Flatten(), nn.Dropout(_DROPOUT), nn.Linear(width * size[0] * size[1], classes)]
    return nn.Sequential(*layers)


def make_vector_network(inputs: np.ndarray, classes: int, width: int) -> nn.Sequential:
    """A perceptron of two hidden layers for (rows, columns). Logits (rows, classes)."""
    hidden = [nn.Linear(inputs.shape[1], width), nn.ReLU(), nn.Dropout(_VECTOR_DROPOUT), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(Normalisation(inputs), Tails(), *hidden, nn.Linear(width, classes))


def fold(network: nn.Sequential) -> nn.Sequential:
    """An evaluating copy without batch norms and dropouts: the weights that a quantizer sees are those that count."""
    return nn.Sequential(*_folded(copy.deepcopy(network).eval())).eval()


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def _folded(layers: nn.Sequential) -> Iterator[nn.Module]:
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            yield fuse_conv_bn_eval(layer, following)
        elif not isinstance(layer, nn.BatchNorm2d | nn.Dropout):
            yield layer
