"""From a float model to smaller ones."""

import typer

from model_tools.storage import write_whole
from model_tools.terminal import Json, ModelFile, Out, TaskFile, answer

app = typer.Typer()


@app.command()
def quantize(task: TaskFile, model: ModelFile, out: Out, as_json: Json = False) -> None:
    """Quantize an fp32 ONNX model to int8, calibrated on the task's training data.

    \b
    Example:
      model-tools quantize task.toml fp32.onnx --out int8.onnx
    """
    from model_tools import workbench

    loaded = workbench.load_task(task)
    made = workbench.quantize_int8(model.read_bytes(), workbench.calibration(loaded, workbench.read_splits(loaded)))
    write_whole(out, made)
    answer({"file": str(out), "bytes": len(made), "fp32_bytes": model.stat().st_size}, as_json)
