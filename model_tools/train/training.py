"""Training a first model, a fine-tune of a parent, and a challenger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version

import numpy as np
import torch
from torch import nn

from model_tools.data.dataset import Dataset, Splits
from model_tools.data.split import hold_out
from model_tools.errors import BadData, BadInput
from model_tools.evaluate.scoring import Evaluation
from model_tools.sections import ImageShape, Recipe
from model_tools.task import Task
from model_tools.train.fit import Look, Progress, fit, seeded
from model_tools.train.folds import cut_folds, set_aside
from model_tools.train.judging import cost, judge
from model_tools.train.layers import Reconstruction
from model_tools.train.plan import Plan, plan_retraining, plan_training
from model_tools.train.recipes import make_network
from model_tools.train.run import run_id
from model_tools.train.search import Trial, search

_SETTLING_ROWS = 4_096
_EXAGGERATED = 8.0
_EVERY = 4
_SEARCH_SHARE = 0.8
"""Of the progress that is told."""
_CALIBRATION_ROWS = 4_096
_CALIBRATION_PICTURES = 256
"""Int8 cuts off what lies beyond the calibration rows: of vectors, which are small, rare extremes should be among them."""


@dataclass(frozen=True)
class Trained:
    """`module` takes raw float32 inputs and gives logits, estimates in the target's unit, or scores; it is in evaluation mode. The digests say from
    which task file and data it came, `run` (train/run.py) from which training, `parent` from which run's weights. `plan`, `looks` and `trials`
    say how it went; a loaded checkpoint has none."""

    module: nn.Sequential
    recipe: Recipe
    seed: int
    width: int
    task_sha256: str
    data_sha256: str
    run: str = ""
    parent: str | None = None
    plan: Plan | None = None
    looks: tuple[Look, ...] = ()
    trials: tuple[Trial, ...] = ()


def train(task: Task, splits: Splits, progress: Progress, parent: Trained | None = None) -> Trained:
    """A model from the task's training rows alone; with a `parent` from its weights, the first train.freeze layers as they are there.

    Raises Failed when the training diverges, BadTask for what the recipe cannot do, BadInput for a parent of another shape.
    """
    plan = plan_training(task, len(splits.train), warm=parent is not None)
    if parent is not None and task.train.width is None:
        plan = replace(plan, width=parent.width)
    trials: Sequence[Trial] = ()
    if task.search.trials and parent is None:
        plan, trials = search(task.search, plan, lambda tried: _attempt(task, splits, tried), _part(progress, 0.0, _SEARCH_SHARE))
        progress = _part(progress, _SEARCH_SHARE, 1.0)
    return _train(task, splits, plan, None, progress, parent, tuple(trials))


def cross_validate(task: Task, splits: Splits, folds: int, progress: Progress) -> Sequence[Evaluation]:
    """One evaluation a fold of the training and validation rows, cut by the task's own way of splitting; the test rows stay unseen, and so do a
    fold's own: what stops its training and sets its temperature or threshold is cut from the rows that it learns from.
    Raises BadData for more folds than the rows allow."""
    rows = splits.train.join(splits.validation)
    judged = []
    for at, (learnt, held) in enumerate(cut_folds(rows, splits.by, folds, task.split.seed)):
        old, stopping = set_aside(rows.select(learnt), splits.by, task.split.seed)
        module, _ = _fit(task, plan_training(task, len(old)), old, None, stopping, _part(progress, at / folds, (at + 1) / folds))
        known = stopping if len(learnable(task, stopping)) else old
        judged.append(judge(task, module, rows.select(held), known))
    return judged


def first_run(task: Task, splits: Splits) -> str:
    """What a training of this task without a parent and new labels is called."""
    return run_id(task.sha256, splits.sha256, task.train.seed, _code())


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
    """float32 (rows, ...): training rows for the quantizer, up to quantize.rows, the new ones in their share of the draws; of an anomaly task also
    such rows exaggerated, or int8 would cut off just what is unusual."""
    most = task.quantize.rows or (_CALIBRATION_PICTURES if isinstance(task.input, ImageShape) else _CALIBRATION_ROWS)
    fresh = 0 if new is None else min(len(new), round(task.retrain.new_share * most))
    parts = [_sample(splits.train, most - fresh, task.train.seed)]
    if new is not None and fresh:
        parts.append(_sample(new, fresh, task.train.seed))
    rows = np.concatenate(parts)
    return np.concatenate([rows, exaggerate(rows)]) if task.kind == "anomaly" else rows


def exaggerate(rows: np.ndarray) -> np.ndarray:
    """Every fourth of `rows`, eight times as far from the medians of the columns (axis -1): enough that they count as a part of the data."""
    middle = np.median(rows, axis=tuple(range(rows.ndim - 1)))
    return (middle + _EXAGGERATED * (rows[::_EVERY] - middle)).astype(np.float32)


def learnable(task: Task, rows: Dataset) -> Dataset:
    """Of an anomaly task the normal rows, else all."""
    return rows.select(np.flatnonzero(rows.labels == 0)) if task.kind == "anomaly" else rows


def _train(
    task: Task,
    splits: Splits,
    plan: Plan,
    new: Dataset | None,
    progress: Progress,
    parent: Trained | None = None,
    trials: tuple[Trial, ...] = (),
) -> Trained:
    module, looks = _fit(task, plan, splits.train, new, splits.validation, progress, parent)
    data = splits.sha256 if new is None else f"{splits.sha256}+{new.sha256}"
    before = None if parent is None else parent.run
    run = run_id(task.sha256, data, plan.seed, _code(), before)
    return Trained(module, plan.recipe, plan.seed, plan.width, task.sha256, splits.sha256, run, before, plan, tuple(looks), trials)


def _code() -> str:
    return f"edgefleet {installed_version('edgefleet')}"


def _fit(
    task: Task, plan: Plan, old: Dataset, new: Dataset | None, validation: Dataset, progress: Progress, parent: Trained | None = None
) -> tuple[nn.Sequential, list[Look]]:
    old, validation = learnable(task, old), learnable(task, validation)
    fresh = None if new is None else learnable(task, new)
    with seeded(plan.seed):
        module = make_network(task, old if fresh is None else old.join(fresh), plan.width)
        if parent is not None:
            _inherit(module, parent)
        looks = fit(module, task.kind, plan, old, fresh, validation, progress)
    if isinstance(module[-1], Reconstruction):
        _settle(module, old.inputs)
    return module, looks


def _settle(module: nn.Sequential, inputs: np.ndarray) -> None:
    chosen = np.random.default_rng(0).permutation(len(inputs))[:_SETTLING_ROWS]
    with torch.inference_mode():
        features = module[:-1](torch.from_numpy(inputs[np.sort(chosen)]))
    module[-1].settle(features)


def _attempt(task: Task, splits: Splits, plan: Plan) -> float:
    """What a plan costs: on the validation rows, or on average over the folds where the task wants them."""
    if not task.search.folds:
        parts = [(splits.train, splits.validation)]
    else:
        rows = splits.train.join(splits.validation)
        folds = cut_folds(rows, splits.by, task.search.folds, task.split.seed)
        parts = [(rows.select(learnt), rows.select(held)) for learnt, held in folds]
    return float(np.mean([cost(task, _fit(task, plan, old, None, held, _quiet)[0], held) for old, held in parts]))


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda share, told: progress(start + (end - start) * share, told)


def _quiet(share: float, told: str) -> None:
    pass


def _inherit(module: nn.Module, parent: Trained) -> None:
    try:
        module.load_state_dict(parent.module.state_dict())
    except RuntimeError as error:
        raise BadInput("the parent is another network: other columns, classes, recipe or width", field="parent") from error


def _sample(rows: Dataset, most: int, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
    return rows.inputs[np.sort(chosen)]
