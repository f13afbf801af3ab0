"""From a task to a checkpoint."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_contract.job import Progress
from model_tools.errors import Failed
from model_tools.terminal import Json, Out, TaskFile, answer, show

if TYPE_CHECKING:
    from model_tools.train.tracking import Tracking
    from model_tools.workbench import RunRecord, Splits, Task, Trained

app = typer.Typer()

Parent = Annotated[
    Path | None, typer.Option("--parent", help="A checkpoint to go on from: a short fine-tune.", exists=True, file_okay=False)
]
Folds = Annotated[int | None, typer.Option("--folds", help="Cross-validate too; else search.folds of the task.", min=2, max=20)]
TrackingUri = Annotated[str, typer.Option("--tracking", help="MLflow's store: a folder or a server.", envvar="MLFLOW_TRACKING_URI")]
IsTracked = Annotated[bool, typer.Option("--track/--no-tracking", help="Whether MLflow is told.")]


@app.command()
def train(
    task: TaskFile,
    out: Out,
    parent: Parent = None,
    folds: Folds = None,
    tracking: TrackingUri = "mlruns",
    is_tracked: IsTracked = True,
    as_json: Json = False,
) -> None:
    """Train the task's model and keep a checkpoint and the run's record in the folder --out. The run is seen in MLflow.

    \b
    Examples:
      model-tools train task.toml --out checkpoint
      model-tools train task.toml --out checkpoint --folds 5
      model-tools train task.toml --out tuned --parent checkpoint
      MLFLOW_TRACKING_URI=http://mlflow:5000 model-tools train task.toml --out checkpoint
    """
    from model_tools import workbench
    from model_tools.check.checking import heed
    from model_tools.train.tracking import open_run

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    heed(loaded, workbench.check_data(loaded, splits, quick=True), lambda told: show(Progress("data", 0.0, told)))
    begun = workbench.load_parent(loaded, splits, parent) if parent else None
    run = open_run(tracking, loaded.name, lambda: datetime.now(UTC)) if is_tracked else None
    with ExitStack() as unfinished:
        unfinished.callback(_abandon, run)
        trained, record = _make(loaded, splits, begun, loaded.search.folds if folds is None else folds)
        unfinished.pop_all()
    _keep(trained, record, out, run, task)
    told = {"checkpoint": str(out), "run": record.run, "train_rows": len(splits.train), record.measure: record.metrics.get(record.measure)}
    spread = {"folds": record.folds, "fold_spread": record.spread} if record.folds else {}
    where = {"tracked": f"{run.tracked.uri} {run.tracked.run_id}"} if run else {}
    answer({**told, **spread, **where}, as_json)


def _make(task: "Task", splits: "Splits", parent: "Trained | None", folds: int) -> tuple["Trained", "RunRecord"]:
    from model_tools import workbench
    from model_tools.build import staged

    judged = workbench.cross_validate(task, splits, folds, staged(show, "folds", 0, 0.5)) if folds else ()
    trained = workbench.train(task, splits, staged(show, "train", 0.5 if folds else 0, 1), parent)
    return trained, workbench.record_run(task, splits, trained, judged)


def _keep(trained: "Trained", record: "RunRecord", out: Path, run: "Tracking | None", task: Path) -> None:
    """The checkpoint first: an hour of training is not lost to a server that went away."""
    import msgspec

    from model_tools import workbench

    tracked = msgspec.structs.replace(record, tracked=run.tracked) if run else record
    workbench.save_checkpoint(trained, out)
    workbench.save_record(tracked, out)
    if run is None:
        return
    try:
        run.finish(tracked, task.read_bytes())
    except Failed as error:
        show(Progress("train", 1.0, f"warning: {error}"))


def _abandon(run: "Tracking | None") -> None:
    if run is None:
        return
    try:
        run.abandon()
    except Failed as error:
        show(Progress("train", 1.0, f"warning: {error}"))
