"""What a model looks at."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_contract.job import Progress
from model_tools.storage import write_whole
from model_tools.terminal import HtmlFile, Json, TaskOption, aligned, answer, show

if TYPE_CHECKING:
    from model_tools.explain.explaining import Explained

app = typer.Typer()
_SHOWN = 20


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
    subject, splits = workbench.open_subject(model), workbench.read_splits(loaded)
    found = workbench.explain_model(
        loaded, splits, subject, count=rows, seed=seed, tell=lambda share, words: show(Progress("explain", share, words))
    )
    if html:
        write_whole(html, render(explanation_page(found)))
    if as_json:
        told = {"model": found.model, "measure": found.measure, "quality": found.quality, "unit": found.unit, "columns": found.columns}
        told["importances"] = [asdict(one) for one in found.importances]
        told["maps"] = {name: weights.tolist() for name, weights in found.maps.items()}
        told["cases"] = [{**asdict(case), "weights": case.weights.tolist()} for case in found.cases]
        answer(told, as_json)
    else:
        typer.echo(f"{found.model}: {found.measure} {found.quality:.4f} on {found.rows} test rows\n")
        typer.echo("\n".join(_lines(found)))


def _lines(found: "Explained") -> list[str]:
    if found.maps:
        most = float(abs(found.maps["all"]).max()) or 1.0
        drawn = [" ".join(f"{max(0.0, value) / most * 9:.0f}" for value in line) for line in found.maps["all"]]
        return ["What answers lose when a part of the picture is covered, 9 most (--html and --json have the maps by class):", *drawn]
    ranked = [(one.name, f"{one.drop:.4f}", f"{one.spread:.4f}") for one in found.importances[:_SHOWN]]
    return aligned([("shuffled among the rows", f"{found.measure} lost", "spread"), *ranked])
