"""From a float model to smaller ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.job import Progress
from model_tools.errors import BadInput
from model_tools.model_files import read_model
from model_tools.quantize.recipe import Kind
from model_tools.storage import write_whole
from model_tools.task import check_profiles
from model_tools.terminal import HtmlFile, Json, Out, TaskFile, aligned, answer, show

app = typer.Typer()


@app.command()
def quantize(
    task: TaskFile,
    model: Annotated[Path, typer.Argument(help="A float32 .onnx or .tflite model, or what `train` has left.", exists=True)],
    out: Out,
    recipe: Annotated[
        Kind,
        typer.Option(
            "--recipe",
            help="int8; dynamic: int8 with ranges found as inputs come; fp16; weights: stored int8, computed float; of a checkpoint also "
            "qat: int8, and the network learns on to bear it, and float.",
        ),
    ] = "int8",
    auto: Annotated[bool, typer.Option("--auto", help="Try all recipes, show which no other beats, keep the best.")] = False,
    prune: Annotated[
        float, typer.Option("--prune", help="Of a checkpoint: first leave out this share of the channels of each layer, and learn on.")
    ] = 0.0,
    profile: Annotated[str, typer.Option("--profile", help="Measure with the threads that this hardware profile gives a worker.")] = "any",
    html: HtmlFile = None,
    as_json: Json = False,
) -> None:
    """Make a float32 model smaller, calibrated on the task's training data and judged on its validation data by [quantize] of the task.

    int8 finds the best ranges by measurement and leaves layers in float where quantize.budget asks for it. --auto never takes what is slower than
    float here, or loses more than the budget.

    \b
    Examples:
      model-tools quantize task.toml fp32.onnx --out int8.onnx
      model-tools quantize task.toml fp32.onnx --auto --profile raspberry-pi-4 --out best.onnx --html report.html
      model-tools quantize task.toml fp32.tflite --out int8.tflite
      model-tools quantize task.toml checkpoint --recipe qat --out int8.onnx
      model-tools quantize task.toml checkpoint --recipe float --prune 0.5 --out small.onnx
    """
    if profile != "any":
        check_profiles([profile], "profile")
    if html and not auto:
        raise BadInput("--html is the report of a search: give --auto", field="html")
    if not model.is_dir() and (prune or recipe in ("qat", "float")):
        raise BadInput(
            "a network learns on from a checkpoint (what `train` has left), not from a file", field="prune" if prune else "recipe"
        )
    if model.is_dir() and auto:
        raise BadInput("--auto searches recipes for ONNX models: export the checkpoint first", field="auto")
    if model.is_dir():
        _learn(task, model, out, recipe, prune, profile, as_json)
    elif auto:
        _search(task, model, out, profile, html, as_json)
    else:
        _make(task, model, out, recipe, profile, as_json)


def _make(task: Path, model: Path, out: Path, recipe: Kind, profile: str, as_json: bool) -> None:
    from model_tools import workbench
    from model_tools.quantize.search import compare_speed

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    _, file = read_model(str(model))
    show(Progress("quantize", 0.1, recipe))
    made = workbench.quantize_file(loaded, splits, file, recipe)
    show(Progress("measure", 0.7, "in turns with the float model"))
    speed = compare_speed(file, made, splits.validation.inputs[:1], profile)
    write_whole(out, made.model)
    told = {"file": str(out), "recipe": made.recipe.title, "bytes": len(made.model), "fp32_bytes": len(file.data)}
    _tell({**told, "ms": speed.ms, "fp32_ms": speed.fp32_ms}, (*made.warnings, *speed.warnings), as_json)


def _learn(task: Path, checkpoint: Path, out: Path, recipe: Kind, prune: float, profile: str, as_json: bool) -> None:
    from model_tools import workbench
    from model_tools.build import staged
    from model_tools.model_files import ModelFile
    from model_tools.quantize.search import compare_speed

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    trained = workbench.load_checkpoint(loaded, splits, checkpoint)
    found = workbench.quantize_trained(loaded, splits, trained, recipe, staged(show, "learn", 0.1, 0.8), prune)
    show(Progress("measure", 0.8, "in turns with the float model"))
    speed = compare_speed(ModelFile("onnxruntime", found.fp32), found.made, splits.validation.inputs[:1], profile)
    write_whole(out, found.made.model)
    told = {"file": str(out), "recipe": found.made.recipe.title, "bytes": len(found.made.model), "fp32_bytes": len(found.fp32)}
    sizes = {"multiplications": found.after.multiplications, "fp32_multiplications": found.before.multiplications}
    _tell({**told, **sizes, "ms": speed.ms, "fp32_ms": speed.fp32_ms}, (*found.made.warnings, *speed.warnings), as_json)


def _search(task: Path, model: Path, out: Path, profile: str, html: Path | None, as_json: bool) -> None:
    from model_tools import workbench
    from model_tools.report.page import render
    from model_tools.report.quantization import HEAD, search_page, search_rows

    loaded = workbench.load_task(task)
    _, file = read_model(str(model))
    if file.runtime != "onnxruntime":
        raise BadInput("--auto searches recipes for ONNX models", field="auto")
    show(Progress("search", 0.1, "making and measuring every recipe"))
    found = workbench.search_recipes(loaded, workbench.read_splits(loaded), file.data, profile)
    write_whole(out, found.chosen.made.model)
    if html:
        write_whole(html, render(search_page(found, loaded.name)))
    rows = search_rows(found)
    told = {"file": str(out), "chosen": found.chosen.title, "threads": found.threads}
    if as_json:
        told["tried"] = [dict(zip((*HEAD[:-1], "marks"), row, strict=True)) for row in rows]
    else:
        for line in aligned([HEAD, *[["" if cell is None else str(cell) for cell in row] for row in rows]]):
            typer.echo(line)
    _tell(told, found.warnings, as_json)


def _tell(told: dict[str, object], warnings: Sequence[str], as_json: bool) -> None:
    if as_json:
        answer({**told, "warnings": list(warnings)}, True)
        return
    for words in warnings:
        typer.echo(f"warning: {words}", err=True)
    answer(told, False)
