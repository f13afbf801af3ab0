"""Models made elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_tools.terminal import Json, Out, answer

if TYPE_CHECKING:
    from model_tools.task import Task
    from model_tools.workbench import Splits

app = typer.Typer()

_TRIED_ROWS = 8


@app.command(name="import")
def import_model(
    model: Annotated[
        Path,
        typer.Argument(
            help="ONNX, TFLite, a torch.export program (.pt2) or a scikit-learn estimator (.skops).", exists=True, dir_okay=False
        ),
    ],
    out: Out,
    task: Annotated[
        Path | None,
        typer.Option("--task", help="The task that it shall do: its columns and classes are held to it.", exists=True, dir_okay=False),
    ] = None,
    trust: Annotated[list[str] | None, typer.Option("--trust", help="A type that a .skops file may hold; may be repeated.")] = None,
    memory_mb: Annotated[int, typer.Option("--memory-mb", min=256, help="Address space that the model may take here.")] = 8_192,
    time_s: Annotated[float, typer.Option("--time-s", min=1, help="What each step may take.")] = 600,
    as_json: Json = False,
) -> None:
    """Take a model made elsewhere, as checked ONNX (or TFLite), with a record of where it came from beside it. Pickles are never loaded.

    \b
    Examples:
      model-tools import theirs.onnx --out fp32.onnx
      model-tools import network.pt2 --task task.toml --out fp32.onnx
      model-tools import forest.skops --task task.toml --out fp32.onnx --json
    """
    import msgspec

    from model_tools import workbench
    from model_tools.adopt.isolation import Bounds

    bounds = Bounds(memory_mb, time_s)
    loaded = workbench.load_task(task) if task else None
    splits = workbench.read_splits(loaded) if loaded else None
    classes = list(splits.classes) if loaded and loaded.kind == "classification" else []
    made = workbench.import_model(model, trusted=trust or (), classes=classes, logits=bool(classes), bounds=bounds)
    if loaded:
        _hold_to(loaded, splits, made, bounds)
    record = workbench.write_imported(made, out)
    answer({"file": str(out), "record": str(record), "bytes": len(made.data), **msgspec.to_builtins(made.record)}, as_json)


def _hold_to(task: "Task", splits: "Splits", made, bounds) -> None:
    from model_tools.importing.record import check_against

    answers = len(splits.classes) if task.kind == "classification" else 1
    check_against(made, splits.train.inputs[:_TRIED_ROWS], answers, bounds)
