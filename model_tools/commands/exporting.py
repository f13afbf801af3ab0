"""From a checkpoint to model files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from model_tools.errors import BadInput
from model_tools.storage import write_whole
from model_tools.terminal import Json, Out, TaskFile, answer

app = typer.Typer()
Format = Literal["onnx", "tflite"]
_ENDINGS: dict[str, Format] = {".onnx": "onnx", ".tflite": "tflite"}


@app.command()
def export(
    task: TaskFile,
    model: Annotated[Path, typer.Argument(help="What `train` has left or, for tflite, a float32 ONNX model.", exists=True)],
    out: Out,
    form: Annotated[Format | None, typer.Option("--format", help="As the name of --out ends, where this is not given.")] = None,
    as_json: Json = False,
) -> None:
    """Export a checkpoint to ONNX or TFLite, the input transform inside the graph; both are checked against what they were made from.

    \b
    Examples:
      model-tools export task.toml checkpoint --out fp32.onnx
      model-tools export task.toml checkpoint --format tflite --out fp32.tflite
      model-tools export task.toml fp32.onnx --out fp32.tflite
    """
    from model_tools import workbench
    from model_tools.adopt.isolation import isolated

    wanted = form or _ENDINGS.get(out.suffix, "onnx")
    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    if model.is_dir():
        trained = workbench.load_checkpoint(loaded, splits, model)
        made = workbench.export_onnx(trained, workbench.input_spec(loaded, splits))
    elif wanted == "tflite":
        made = _read_onnx(model)
    else:
        raise BadInput(f"{model} is no checkpoint", field="model")
    if wanted == "tflite":
        with isolated() as child:
            made = child.ask("model", workbench.export_tflite, made, splits.validation.inputs)
    write_whole(out, made)
    answer({"file": str(out), "format": wanted, "bytes": len(made)}, as_json)


def _read_onnx(path: Path) -> bytes:
    from model_tools.model_files import read_model

    _, file = read_model(str(path))
    if file.runtime != "onnxruntime":
        raise BadInput(f"{path} is no ONNX model", field="model")
    return file.data
