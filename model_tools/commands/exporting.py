"""From a checkpoint to model files."""

from pathlib import Path
from typing import Annotated

import typer

from model_tools.storage import write_whole
from model_tools.terminal import Json, Out, TaskFile, answer

app = typer.Typer()


@app.command()
def export(
    task: TaskFile, checkpoint: Annotated[Path, typer.Argument(help="What `train` has left.")], out: Out, as_json: Json = False
) -> None:
    """Export a checkpoint to ONNX, the input transform inside the graph.

    \b
    Example:
      model-tools export task.toml checkpoint --out fp32.onnx
    """
    from model_tools import workbench

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    trained = workbench.load_checkpoint(loaded, splits, checkpoint)
    model = workbench.export_onnx(trained, workbench.input_spec(loaded, splits))
    write_whole(out, model)
    answer({"file": str(out), "bytes": len(model)}, as_json)
