"""Training a first model, and a challenger."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from model_tools.data.dataset import Dataset, Splits
from model_tools.data.split import hold_out
from model_tools.errors import BadData
from model_tools.sections import ImageShape, Recipe
from model_tools.task import Task
from model_tools.train.fit import Progress, fit
from model_tools.train.plan import Plan, plan_retraining, plan_training

_CALIBRATION_ROWS = 4_096
_CALIBRATION_PICTURES = 256
"""Int8 cuts off what lies beyond the calibration rows: of vectors, which are small, rare extremes should be among them."""


@dataclass(frozen=True)
class Trained:
    """`module` takes raw float32 inputs and gives logits; it is in evaluation mode. The digests say from which task file and data it came."""

    module: nn.Sequential
    recipe: Recipe
    seed: int
    width: int
    task_sha256: str
    data_sha256: str


def train(task: Task, splits: Splits, progress: Progress) -> Trained:
    """A model from the task's training rows alone. Raises Failed when the training diverges."""
    return _train(task, splits, plan_training(task, len(splits.train)), None, progress)


def split_new(task: Task, new: Dataset) -> tuple[Dataset, Dataset]:
    """New labels to fit to, and those held back for the gates: disjoint, by class, always the same for the same rows.

    Raises BadData when there are too few to hold any back.
    """
    fit_rows, held = hold_out(new, task.retrain.held_out, task.split.seed)
    if not len(held):
        raise BadData(f"{len(new)} new labels are too few to hold some back for the gates", field="samples")
    return fit_rows, held


def retrain(task: Task, splits: Splits, new: Dataset, progress: Progress) -> Trained:
    """A challenger from the task's training rows and `new` (never the held-out part), which is drawn more often than its size asks for.

    It starts afresh with strong variations: the champion's weights would keep what the champion overlooked. Raises Failed.
    """
    plan = plan_retraining(task, len(splits.train), len(new))
    return _train(task, splits, plan, new if len(new) else None, progress)


def calibration(task: Task, splits: Splits, new: Dataset | None = None) -> np.ndarray:
    """float32 (rows, ...): training rows for the quantizer, up to quantize.rows, the new ones in their share of the draws."""
    most = task.quantize.rows or (_CALIBRATION_PICTURES if isinstance(task.input, ImageShape) else _CALIBRATION_ROWS)
    fresh = 0 if new is None else min(len(new), round(task.retrain.new_share * most))
    parts = [_sample(splits.train, most - fresh, task.train.seed)]
    if new is not None and fresh:
        parts.append(_sample(new, fresh, task.train.seed))
    return np.concatenate(parts)


def _train(task: Task, splits: Splits, plan: Plan, new: Dataset | None, progress: Progress) -> Trained:
    module = fit(plan, splits.train, new, progress)
    return Trained(module, plan.recipe, plan.seed, plan.width, task.sha256, splits.sha256)


def _sample(rows: Dataset, most: int, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
    return rows.inputs[np.sort(chosen)]
