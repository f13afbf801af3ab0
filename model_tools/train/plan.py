"""How long and how a training goes: the task's wishes, and where it has none, what its amount of data asks for."""

from dataclasses import dataclass
from typing import Literal

from model_tools.sections import Augment, ImageShape, Recipe
from model_tools.task import Task
from model_tools.train.recipes import USUAL_WIDTH


@dataclass(frozen=True)
class Plan:
    """`new_share` of each batch's draws are new labels; 0 when there are none. The rest as in sections.Training."""

    recipe: Recipe
    seed: int
    steps: int
    batch: int
    learning_rate: float
    width: int
    augment: Augment
    threads: int
    new_share: float = 0.0
    balanced: bool = False
    patience: int = 0
    freeze: int = 0
    device: Literal["cpu", "cuda", "auto"] = "cpu"


@dataclass(frozen=True)
class _Usual:
    epochs: int
    fewest_steps: int
    most_steps: int


_PICTURES = _Usual(epochs=20, fewest_steps=300, most_steps=10_000)
_ROWS = _Usual(epochs=60, fewest_steps=600, most_steps=20_000)
_WINDOWS = _Usual(epochs=30, fewest_steps=600, most_steps=6_000)
_USUAL: dict[Recipe, _Usual] = {
    "image-cnn": _PICTURES,
    "image-mobile": _PICTURES,
    "vector-mlp": _ROWS,
    "autoencoder": _ROWS,
    "window-cnn": _WINDOWS,
    "module": _WINDOWS,
}
_BATCH_PIXELS = 2**22
"""Activations of a batch stay in memory until the step is done: 64 pictures of 256 x 256 take about a gigabyte."""
_FEWEST_IN_BATCH = 2
"""One old row and one new."""
_CHALLENGER_EPOCHS = 1.5
"""Strong augmentation learns slower."""
_WARM_EPOCHS = 0.5
_WARM_RATE = 0.1
"""A fine-tune at full rate would leave nothing of its parent."""


def plan_training(task: Task, rows: int, *, warm: bool = False) -> Plan:
    """For a model from the task's own data, `rows` of them; `warm` from a parent's weights: shorter, in smaller steps."""
    wish = task.train
    batch = _batch(task, rows)
    return Plan(
        recipe=task.recipe,
        seed=wish.seed,
        steps=_steps(wish.epochs, _USUAL[task.recipe], rows, batch, _WARM_EPOCHS if warm else 1.0),
        batch=batch,
        learning_rate=wish.learning_rate * (_WARM_RATE if warm else 1.0),
        width=wish.width or USUAL_WIDTH[task.recipe],
        augment=wish.augment,
        threads=wish.threads,
        balanced=wish.class_weights == "balanced",
        patience=wish.patience,
        freeze=wish.freeze if warm else 0,
        device=wish.device,
    )


def plan_retraining(task: Task, old_rows: int, new_rows: int) -> Plan:
    """For a challenger from old rows and new labels."""
    wish, rows = task.retrain, old_rows + new_rows
    batch = _batch(task, rows)
    return Plan(
        recipe=task.recipe,
        seed=task.train.seed if wish.seed is None else wish.seed,
        steps=_steps(wish.epochs, _USUAL[task.recipe], rows, batch, _CHALLENGER_EPOCHS),
        batch=batch,
        learning_rate=task.train.learning_rate,
        width=task.train.width or USUAL_WIDTH[task.recipe],
        augment=wish.augment,
        threads=task.train.threads,
        new_share=wish.new_share,
        balanced=task.train.class_weights == "balanced",
        patience=task.train.patience,
        device=task.train.device,
    )


def _batch(task: Task, rows: int) -> int:
    pixels = task.input.height * task.input.width if isinstance(task.input, ImageShape) else 1
    return max(_FEWEST_IN_BATCH, min(task.train.batch, rows, _BATCH_PIXELS // pixels))


def _steps(epochs: int | None, usual: _Usual, rows: int, batch: int, factor: float) -> int:
    if epochs is not None:
        return epochs * -(-rows // batch)
    return int(factor * min(max(usual.epochs * rows // batch, usual.fewest_steps), usual.most_steps))
