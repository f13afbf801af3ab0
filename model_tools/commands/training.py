"""From a task to a checkpoint."""

import typer

from model_tools.terminal import Json, Out, TaskFile, answer, show

app = typer.Typer()


@app.command()
def train(task: TaskFile, out: Out, as_json: Json = False) -> None:
    """Train the task's model and keep a checkpoint in the folder --out.

    \b
    Example:
      model-tools train task.toml --out checkpoint
    """
    from model_tools import workbench
    from model_tools.build import staged

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    workbench.save_checkpoint(workbench.train(loaded, splits, staged(show, "train", 0, 1)), out)
    answer({"checkpoint": str(out), "train_rows": len(splits.train)}, as_json)
