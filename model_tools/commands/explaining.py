"""What a model looks at."""

from dataclasses import asdict
from typing import Annotated

import typer

from model_tools.storage import write_whole
from model_tools.terminal import HtmlFile, Json, TaskOption, answer

app = typer.Typer()


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="An .onnx or .tflite file, or BUNDLE[:VARIANT].")],
    task: TaskOption,
    rows: Annotated[int, typer.Option("--rows", min=0, max=200, help="So many single answers, the wrong ones first.")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the shuffles.")] = 0,
    html: HtmlFile = None,
    as_json: Json = False,
) -> None:
    """What a model's answers rest on: permutation importance of columns, occlusion maps of pictures; as a whole and answer by answer.

    \b
    Examples:
      model-tools explain int8.onnx --task task.toml --html why.html
      model-tools explain pump.bundle:int8 --task task.toml --rows 20 --json
    """
    from model_tools import workbench
    from model_tools.report.explanation import explanation_page
    from model_tools.report.page import render

    loaded = workbench.load_task(task)
    found = workbench.explain_model(loaded, workbench.read_splits(loaded), workbench.open_subject(model), count=rows, seed=seed)
    if html:
        write_whole(html, render(explanation_page(found)))
    told = {"model": found.model, found.measure: found.quality, "unit": found.unit, "columns": found.columns}
    told["importances"] = [asdict(one) for one in found.importances[: None if as_json else 10]]
    if as_json:
        told["maps"] = {name: weights.tolist() for name, weights in found.maps.items()}
        told["cases"] = [{**asdict(case), "weights": case.weights.tolist()} for case in found.cases]
    answer(told, as_json)
