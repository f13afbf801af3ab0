"""The training loop. Same rows, plan and machine (its number of threads too): same weights."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from model_tools.data.dataset import Dataset
from model_tools.errors import BadTask, Failed
from model_tools.sections import TaskKind
from model_tools.train import pictures, vectors
from model_tools.train.layers import Normalisation
from model_tools.train.loss import loss_for
from model_tools.train.plan import Plan

Progress = Callable[[float, str], None]
"""Told the share done, 0..1, and a few words."""

_WEIGHT_DECAY = 1e-2
_PRIOR = 1.0
"""Of a perceptron's weights, a Gaussian's as in logistic regression: it counts as much as one row, so that few rows (of 40: 84 -> 91 % right)
are not learned by heart and many are not held back. A CNN's weights have no scale before a batch norm."""
_LOOKS = 20
_LOOK_ROWS = 512


@dataclass(frozen=True)
class Look:
    """At a training after `step` steps: the loss of the last batch, and of the validation rows (None: not asked for)."""

    step: int
    loss: float
    validation_loss: float | None = None


def fit(
    network: nn.Module, kind: TaskKind, plan: Plan, old: Dataset, new: Dataset | None, validation: Dataset, progress: Progress
) -> list[Look]:
    """Fits `network` in place to `old` and `new` (the same classes) and leaves it evaluating. With patience it has the weights that did best on
    `validation`. Raises Failed when the loss diverges, BadTask for a device that there is not.

    Draws from torch's random state as it is (see `seeded`); the number of threads is left as it was.
    """
    rows = old if new is None else old.join(new)
    device = _device(plan.device)
    with working_threads(plan.threads):
        network.to(device, memory_format=_layout(rows))
        looks = _Run(network, kind, plan, rows, validation, device).go(_draws(plan, len(old), len(rows)), progress)
    network.to("cpu", memory_format=torch.contiguous_format).eval()
    return looks


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers begin at `seed` inside, and go on outside as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class _Run:
    """One training on its way."""

    def __init__(self, network: nn.Module, kind: TaskKind, plan: Plan, rows: Dataset, validation: Dataset, device: torch.device) -> None:
        self._network, self._plan, self._rows, self._validation, self._device = network, plan, rows, validation, device
        self._inputs, self._labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)
        self._loss = loss_for(kind, rows, balanced=plan.balanced)
        self._score = loss_for(kind, rows, balanced=plan.balanced, smoothing=0.0)
        self._frozen = _frozen(network, plan.freeze)
        self._vary = variation(plan, rows)
        learnt = [weights for weights in network.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.AdamW(learnt, plan.learning_rate, weight_decay=_WEIGHT_DECAY)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, plan.learning_rate, total_steps=plan.steps + 1)

    def go(self, draws: Iterator[torch.Tensor], progress: Progress) -> list[Look]:
        looks, best, since, weights = [], float("inf"), 0, None
        every = max(1, self._plan.steps // _LOOKS)
        self._train()
        for step in range(1, self._plan.steps + 1):
            loss = self._step(next(draws))
            if step % every:
                continue
            looks.append(self._look(step, loss.item(), progress))
            if (seen := looks[-1].validation_loss) is None:
                continue
            if seen < best:
                best, since, weights = seen, 0, copy.deepcopy(self._network.state_dict())
            elif (since := since + 1) >= self._plan.patience:
                break
        if weights is not None:
            self._network.load_state_dict(weights)
        return looks

    def _step(self, drawn: torch.Tensor) -> torch.Tensor:
        batch = self._vary(self._inputs[drawn]).contiguous(memory_format=_layout(self._rows)).to(self._device)
        loss = self._loss(self._network(batch), self._labels[drawn].to(self._device))
        if self._plan.recipe == "vector-mlp":
            loss = loss + _PRIOR / len(self._rows) * _squares(self._network)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        return loss

    def _look(self, step: int, loss: float, progress: Progress) -> Look:
        if not loss < float("inf"):
            raise Failed(f"training diverged at step {step}: lower train.learning_rate", field="train.learning_rate")
        seen = self._validate() if self._plan.patience and len(self._validation) else None
        told = "" if seen is None else f", on validation rows {seen:.3f}"
        progress(step / self._plan.steps, f"step {step} of {self._plan.steps}, loss {loss:.3f}{told}")
        return Look(step, loss, seen)

    def _validate(self) -> float:
        self._network.eval()
        with torch.inference_mode():
            inputs = torch.from_numpy(self._validation.inputs).split(_LOOK_ROWS)
            answers = torch.cat([self._network(part.to(self._device)) for part in inputs])
            loss = self._score(answers, torch.from_numpy(self._validation.labels).to(self._device)).item()
        self._train()
        return loss

    def _train(self) -> None:
        self._network.train()
        for layer in self._frozen:
            layer.eval()


@contextlib.contextmanager
def working_threads(count: int) -> Iterator[None]:
    """As many as the plan says: the order of sums, and so the weights, depends on it; and threads that wait for a busy core spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(wanted: str) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise BadTask('there is no CUDA device here; "auto" takes one where there is one', field="train.device", limit="cpu, auto")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _layout(rows: Dataset) -> torch.memory_format:
    """Channels last makes small convolutions a quarter cheaper on a CPU."""
    return torch.channels_last if rows.inputs.ndim == 4 else torch.contiguous_format


def _frozen(network: nn.Module, count: int) -> list[nn.Module]:
    """The first `count` layers with weights, each with its batch norm, whose statistics stand still too. Raises BadTask when none is left."""
    layers = list(network.children())
    weighted = [at for at, layer in enumerate(layers) if any(p.ndim > 1 for p in layer.parameters())]
    if count and count >= len(weighted):
        raise BadTask(
            f"the network has {len(weighted)} layers: freezing {count} leaves nothing to train",
            field="train.freeze",
            limit=len(weighted) - 1,
        )
    kept = layers[: weighted[count]] if count else []
    for layer in kept:
        layer.requires_grad_(False)
    return kept


def _squares(network: nn.Module) -> torch.Tensor:
    return sum(weights.square().sum() for weights in network.parameters() if weights.ndim > 1)


def variation(plan: Plan, rows: Dataset) -> Callable[[torch.Tensor], torch.Tensor]:
    """Varies batches of such rows as the plan says, always the same way."""
    generator = torch.Generator().manual_seed(plan.seed)
    if rows.inputs.ndim == 4:
        return lambda batch: pictures.vary(batch, plan.augment, generator)
    deviation = 1 / Normalisation(rows.inputs, robust=True).scale
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
