"""What is known of a training afterwards: run.json in the checkpoint's folder."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from model_tools.data.dataset import Splits
from model_tools.evaluate.scoring import Evaluation
from model_tools.storage import write_whole
from model_tools.task import Task
from model_tools.train.fit import Look
from model_tools.train.judging import judge
from model_tools.train.plan import Plan
from model_tools.train.search import Trial
from model_tools.train.training import Trained

RECORD = "run.json"


class Tracked(msgspec.Struct, frozen=True):
    """Where engineers see the run: `uri` without secrets, and MLflow's own name for it, which is random."""

    uri: str
    experiment: str
    run_id: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`run` is its name in the bundle's lineage (train/run.py). `metrics` are of the validation rows; `folds` the quality of each fold, `spread`
    their standard deviation."""

    run: str
    parent: str | None
    task: str
    kind: str
    task_sha256: str
    data_sha256: str
    split_by: str
    rows: dict[str, int]
    plan: Plan | None
    measure: str
    metrics: dict[str, float]
    folds: list[float] = []
    spread: float | None = None
    looks: Sequence[Look] = ()
    trials: Sequence[Trial] = ()
    tracked: Tracked | None = None


def record_run(task: Task, splits: Splits, trained: Trained, folds: Sequence[Evaluation] = ()) -> RunRecord:
    """Without where it is tracked."""
    judged = judge(task, trained.module, splits.validation, splits.validation)
    qualities = [fold.quality for fold in folds]
    return RunRecord(
        run=trained.run,
        parent=trained.parent,
        task=task.name,
        kind=task.kind,
        task_sha256=trained.task_sha256,
        data_sha256=trained.data_sha256,
        split_by=splits.by,
        rows={name: len(part) for name, part in zip(("train", "validation", "test"), splits.parts, strict=True)},
        plan=trained.plan,
        measure=judged.measure,
        metrics={name: value for name, value in judged.metrics.items() if np.isfinite(value)},
        folds=qualities,
        spread=float(np.std(qualities, ddof=1)) if len(qualities) > 1 else None,
        looks=trained.looks,
        trials=trained.trials,
    )


def save_record(record: RunRecord, folder: Path) -> None:
    """Raises Failed when the disk does not take it."""
    write_whole(folder / RECORD, msgspec.json.format(msgspec.json.encode(record)))
