"""How long and how a training goes: the task's wishes, and where it has none, what its amount of data asks for."""

from dataclasses import dataclass

from model_tools.sections import Augment, ImageShape, Recipe
from model_tools.task import Task


@dataclass(frozen=True)
class Plan:
    """`new_share` of each batch's draws are new labels; 0 when there are none."""

    recipe: Recipe
    seed: int
    steps: int
    batch: int
    learning_rate: float
    width: int
    augment: Augment
    threads: int
    new_share: float = 0.0


@dataclass(frozen=True)
class _Usual:
    epochs: int
    fewest_steps: int
    most_steps: int
    width: int


_USUAL: dict[Recipe, _Usual] = {
    "image-cnn": _Usual(epochs=20, fewest_steps=300, most_steps=10_000, width=16),
    "vector-mlp": _Usual(epochs=60, fewest_steps=600, most_steps=20_000, width=64),
}
_BATCH_PIXELS = 2**22
"""Activations of a batch stay in memory until the step is done: 64 pictures of 256 x 256 take about a gigabyte."""
_FEWEST_IN_BATCH = 2
"""One old row and one new."""
_CHALLENGER_EPOCHS = 1.5
"""Strong augmentation learns slower."""


def plan_training(task: Task, rows: int) -> Plan:
    """For a model from the task's own data, `rows` of them."""
    wish = task.train
    usual = _USUAL[task.recipe]
    batch = _batch(task, rows)
    steps = _steps(wish.epochs, usual, rows, batch, 1.0)
    return Plan(task.recipe, wish.seed, steps, batch, wish.learning_rate, wish.width or usual.width, wish.augment, wish.threads)


def plan_retraining(task: Task, old_rows: int, new_rows: int) -> Plan:
    """For a challenger from old rows and new labels."""
    wish, usual, rows = task.retrain, _USUAL[task.recipe], old_rows + new_rows
    batch = _batch(task, rows)
    steps = _steps(wish.epochs, usual, rows, batch, _CHALLENGER_EPOCHS)
    seed = task.train.seed if wish.seed is None else wish.seed
    width = task.train.width or usual.width
    return Plan(task.recipe, seed, steps, batch, task.train.learning_rate, width, wish.augment, task.train.threads, wish.new_share)


def _batch(task: Task, rows: int) -> int:
    pixels = task.input.height * task.input.width if isinstance(task.input, ImageShape) else 1
    return max(_FEWEST_IN_BATCH, min(task.train.batch, rows, _BATCH_PIXELS // pixels))


def _steps(epochs: int | None, usual: _Usual, rows: int, batch: int, factor: float) -> int:
    if epochs is not None:
        return epochs * -(-rows // batch)
    return int(factor * min(max(usual.epochs * rows // batch, usual.fewest_steps), usual.most_steps))
