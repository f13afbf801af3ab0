"""The training loop. Same rows, plan and machine (its number of threads too): same weights."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from model_tools.data.dataset import Dataset
from model_tools.errors import Failed
from model_tools.train import networks, pictures, vectors
from model_tools.train.plan import Plan

Progress = Callable[[float, str], None]
"""Told the share done, 0..1, and a few words."""

_LABEL_SMOOTHING = 0.05
_WEIGHT_DECAY = 1e-2
_PRIOR = 1.0
"""Of a perceptron's weights, a Gaussian's as in logistic regression: it counts as much as one row, so that few rows (of 40: 84 -> 91 % right)
are not learned by heart and many are not held back. A CNN's weights have no scale before a batch norm."""
_REPORTS = 20


def fit(plan: Plan, old: Dataset, new: Dataset | None, progress: Progress) -> nn.Sequential:
    """A network in evaluation mode, fitted to `old` and `new` (the same classes). Raises Failed when the loss diverges.

    The caller's random state and number of threads are left as they were.
    """
    rows = old if new is None else old.join(new)
    with torch.random.fork_rng(devices=[]), _threads(plan.threads):
        torch.manual_seed(plan.seed)
        network = _make(plan, rows).to(memory_format=_layout(plan))
        _run(network, plan, rows, _draws(plan, len(old), len(rows)), progress)
    return network.to(memory_format=torch.contiguous_format).eval()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many as the plan says: the order of sums, and so the weights, depends on it; and threads that wait for a busy core spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _layout(plan: Plan) -> torch.memory_format:
    """Channels last makes small convolutions a quarter cheaper on a CPU."""
    return torch.channels_last if plan.recipe == "image-cnn" else torch.contiguous_format


def _make(plan: Plan, rows: Dataset) -> nn.Sequential:
    make = networks.make_image_network if plan.recipe == "image-cnn" else networks.make_vector_network
    return make(rows.inputs, len(rows.classes), plan.width)


def _run(network: nn.Sequential, plan: Plan, rows: Dataset, draws: Iterator[torch.Tensor], progress: Progress) -> None:
    inputs, labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)
    optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=plan.steps + 1)
    generator = torch.Generator().manual_seed(plan.seed)
    vary = _variation(network, plan, generator)
    network.train()
    every = max(1, plan.steps // _REPORTS)
    for step in range(plan.steps):
        drawn = next(draws)
        batch = vary(inputs[drawn]).contiguous(memory_format=_layout(plan))
        loss = functional.cross_entropy(network(batch), labels[drawn], label_smoothing=_LABEL_SMOOTHING)
        if plan.recipe == "vector-mlp":
            loss = loss + _PRIOR / len(rows) * _squares(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % every == 0:
            _report(step + 1, plan.steps, loss.item(), progress)


def _squares(network: nn.Sequential) -> torch.Tensor:
    return sum(weights.square().sum() for weights in network.parameters() if weights.ndim > 1)


def _report(step: int, steps: int, loss: float, progress: Progress) -> None:
    if not loss < float("inf"):
        raise Failed(f"training diverged at step {step}: lower train.learning_rate", field="train.learning_rate")
    progress(step / steps, f"step {step} of {steps}, loss {loss:.3f}")


def _variation(network: nn.Sequential, plan: Plan, generator: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    if plan.recipe == "image-cnn":
        return lambda batch: pictures.vary(batch, plan.augment, generator)
    deviation = 1 / network[0].scale
    return lambda batch: vectors.vary(batch, plan.augment, deviation, generator)


def _draws(plan: Plan, old: int, total: int) -> Iterator[torch.Tensor]:
    """Row numbers of each batch: every old row once an epoch, the new ones in their share. New rows are `old` .. `total` - 1."""
    generator = torch.Generator().manual_seed(plan.seed + 1)
    news = min(plan.batch - 1, round(plan.new_share * plan.batch)) if total > old else 0
    olds, fresh = _cycle(0, old, generator), _cycle(old, total, generator)
    while True:
        drawn = [next(olds) for _ in range(plan.batch - news)] + [next(fresh) for _ in range(news)]
        yield torch.tensor(drawn)[torch.randperm(plan.batch, generator=generator)]


def _cycle(first: int, end: int, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from (torch.randperm(end - first, generator=generator) + first).tolist()
