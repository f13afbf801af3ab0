"""One CNN on handwritten digits, and what becomes of its files when it is trained on: its head alone, lightly, much, or anew."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from fleet_contract.inputs import ImageInput
from model_tools.export.graph import export_onnx
from model_tools.quantize.int8 import quantize_int8
from model_tools.train.networks import Normalisation
from model_tools.train.training import Trained

_OLD_ROWS = 1_000
_CALIBRATION_ROWS = 256
_ROWS_A_STEP = 64
_SPEC = ImageInput("image", 8, 8, 1)

Rows = tuple[torch.Tensor, torch.Tensor]


def updates() -> Iterator[tuple[str, bytes, bytes]]:
    """Name, older file, newer file. The first thousand digits are what the first model knew, the rest is new."""
    torch.set_num_threads(1)
    digits = load_digits()
    inputs = torch.tensor(digits.images[:, None], dtype=torch.float32)
    labels = torch.tensor(digits.target)
    old, new, every = [(inputs[rows], labels[rows]) for rows in (slice(_OLD_ROWS), slice(_OLD_ROWS, None), slice(None))]
    first = _fit(_network(inputs, seed=1), old, passes=6, rate=1e-3)
    after = {
        "head only": _fit(copy.deepcopy(first), new, passes=3, rate=1e-3, of=slice(-1, None)),
        "light fine-tune": _fit(copy.deepcopy(first), new, passes=1, rate=1e-4),
        "heavy fine-tune": _fit(copy.deepcopy(first), new, passes=5, rate=1e-3),
        "full retrain": _fit(_network(inputs, seed=2), every, passes=6, rate=1e-3),
    }
    base = _files(first, inputs)
    made = {name: _files(network, inputs) for name, network in after.items()}
    for precision in base:
        yield from ((f"{precision}, {name}", base[precision], files[precision]) for name, files in made.items())


def _network(inputs: torch.Tensor, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    convolutions = [
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    ]
    return nn.Sequential(Normalisation(inputs.numpy()), *convolutions, nn.Flatten(), nn.Linear(512, 448), nn.ReLU(), nn.Linear(448, 10))


def _fit(network: nn.Sequential, rows: Rows, passes: int, rate: float, of: slice = slice(None)) -> nn.Sequential:
    """Train the layers `of` the network."""
    order = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam([weights for layer in network[of] for weights in layer.parameters()], lr=rate)
    for _ in range(passes):
        for chosen in torch.randperm(len(rows[0]), generator=order).split(_ROWS_A_STEP):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(rows[0][chosen]), rows[1][chosen]).backward()
            optimiser.step()
    return network.eval()


def _files(network: nn.Sequential, inputs: torch.Tensor) -> dict[str, bytes]:
    fp32 = export_onnx(Trained(network, "image-cnn", 0, 0, "", ""), _SPEC)
    return {"int8": quantize_int8(fp32, inputs[:_CALIBRATION_ROWS].numpy().astype(np.float32)), "fp32": fp32}
