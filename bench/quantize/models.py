"""The float models that are quantized: trained here in seconds, each with its calibration rows and rows that nobody has seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from model_tools.export.graph import export_module

_ROWS_A_STEP = 64
_CALIBRATION_ROWS = 256
_WIDE = 512
_SPREAD = 100.0
_OUTLIER = 1e3
"""Standard deviations."""


@dataclass(frozen=True)
class Case:
    """`calibration` and `test` float32 (rows, ...), `labels` int64 (rows,) those of the test rows. `heavy`: weights are nearly all of the file."""

    name: str
    fp32: bytes
    calibration: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    heavy: bool


Rows = tuple[np.ndarray, np.ndarray]


class _Scaled(nn.Module):
    """Raw units to about one."""

    def __init__(self, rows: np.ndarray, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(rows.mean(axis=axes, keepdims=True)))
        self.register_buffer("scale", torch.tensor(1 / np.maximum(rows.std(axis=axes, keepdims=True), 1e-6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) * self.scale


class _Channels(nn.Module):
    """(rows, samples, columns) to (rows, columns, samples)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def cases() -> list[Case]:
    torch.set_num_threads(1)
    return [make() for make in (_digits, _windows, _vectors, _spread)]


def _digits() -> Case:
    return _picture_case("digits CNN", lambda network: None)


def _spread() -> Case:
    """The same function as a digits CNN: what a channel is made smaller by, the next layer makes up for."""
    return _picture_case("channels spread 100x", _spread_channels)


def _picture_case(name: str, change: Callable[[nn.Sequential], None]) -> Case:
    digits = load_digits()
    (learnt, test) = _parted(digits.images[:, None].astype(np.float32), digits.target)
    torch.manual_seed(1)
    layers = [
        *(_Scaled(learnt[0], (0, 2, 3)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 256), nn.ReLU()),
        nn.Linear(256, 10),
    ]
    network = _fit(nn.Sequential(*layers), learnt, passes=8)
    change(network)
    return _case(name, network, learnt, test, heavy=True)


def _spread_channels(network: nn.Sequential) -> None:
    factors = torch.tensor(np.geomspace(1 / _SPREAD, 1, 32)[np.random.default_rng(4).permutation(32)], dtype=torch.float32)
    with torch.no_grad():
        network[1].weight *= factors[:, None, None, None]
        network[1].bias *= factors
        network[3].weight /= factors[None, :, None, None]


def _windows() -> Case:
    """Which of four rhythms two noisy sensors follow."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 2_400)
    time = np.arange(64)[None, :, None]
    pace = (0.15 + 0.08 * labels)[:, None, None] * rng.uniform(0.9, 1.1, (2_400, 1, 1))
    shift = rng.uniform(0, 6.3, (2_400, 1, 2))
    values = 20 + 5 * np.sin(pace * time + shift) + rng.normal(0, 3, (2_400, 64, 2))
    learnt, test = _parted((values * (1.0, 40.0)).astype(np.float32), labels)
    torch.manual_seed(2)
    layers = [
        *(_Scaled(learnt[0], (0, 1)), _Channels(), nn.Conv1d(2, 96, 5, stride=2), nn.ReLU(), nn.Conv1d(96, 96, 5, stride=2), nn.ReLU()),
        *(nn.Conv1d(96, 96, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)),
    ]
    return _case("windows, 1-D CNN", _fit(nn.Sequential(*layers), learnt, passes=6), learnt, test, heavy=True)


def _vectors() -> Case:
    """Sensors of very different units; one calibration row is a broken sensor's."""
    rng = np.random.default_rng(3)
    plain = rng.normal(size=(4_000, 24))
    labels = (np.tanh(plain[:, :8] @ rng.normal(size=(8, 6))) @ rng.normal(size=(6, 5)) + rng.normal(0, 0.2, (4_000, 5))).argmax(axis=1)
    learnt, test = _parted((plain * np.geomspace(0.01, 1e4, 24) + 3).astype(np.float32), labels)
    torch.manual_seed(3)
    layers = [_Scaled(learnt[0], (0,)), nn.Linear(24, _WIDE), nn.ReLU(), nn.Linear(_WIDE, _WIDE), nn.ReLU(), nn.Linear(_WIDE, 5)]
    network = _fit(nn.Sequential(*layers), learnt, passes=6)
    calibration = learnt[0][:_CALIBRATION_ROWS].copy()
    calibration[7, 5] += _OUTLIER * learnt[0][:, 5].std()
    made = _case("MLP, one outlier row", network, learnt, test, heavy=True)
    return Case(made.name, made.fp32, calibration, made.test, made.labels, made.heavy)


def _case(name: str, network: nn.Sequential, learnt: Rows, test: Rows, heavy: bool) -> Case:
    fp32 = export_module(network.eval(), torch.from_numpy(learnt[0][:8]), "input")
    return Case(name, fp32, learnt[0][:_CALIBRATION_ROWS], test[0], test[1], heavy)


def _parted(inputs: np.ndarray, labels: np.ndarray) -> tuple[Rows, Rows]:
    order = np.random.default_rng(0).permutation(len(labels))
    rest, test = order[: -len(order) // 3], order[-len(order) // 3 :]
    return (inputs[rest], labels[rest]), (inputs[test], labels[test])


def _fit(network: nn.Sequential, rows: Rows, passes: int) -> nn.Sequential:
    inputs, labels = torch.from_numpy(rows[0]), torch.from_numpy(rows[1].astype(np.int64))
    order = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(passes):
        for chosen in torch.randperm(len(inputs), generator=order).split(_ROWS_A_STEP):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen]).backward()
            optimiser.step()
    return network
