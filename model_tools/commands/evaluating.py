"""How good models are."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleet_contract.job import Progress
from model_tools.errors import GateFailed
from model_tools.gates import reason
from model_tools.storage import write_whole
from model_tools.terminal import HtmlFile, Json, TaskFile, aligned, answer, show

if TYPE_CHECKING:
    from model_tools.compare.measuring import Measured

app = typer.Typer()


@app.command()
def evaluate(
    task: TaskFile,
    model: Annotated[str, typer.Argument(help="An .onnx or .tflite file, or BUNDLE[:VARIANT].")],
    smaller: Annotated[str | None, typer.Argument(help="The same model in another precision, which is judged against it.")] = None,
    html: HtmlFile = None,
    as_json: Json = False,
) -> None:
    """Measure a model on the task's test data, and judge it by the task's gates (exit code 3: refused).

    \b
    Examples:
      model-tools evaluate task.toml model.onnx --html report.html
      model-tools evaluate task.toml fp32.onnx int8.onnx --json
    """
    from model_tools import workbench
    from model_tools.compare.figures import gates_of
    from model_tools.report.comparison import evaluation_page
    from model_tools.report.page import render

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    subjects = [workbench.open_subject(given) for given in (model, smaller) if given is not None]
    show(Progress("evaluate", 0.2, f"{', '.join(subject.name for subject in subjects)} on {len(splits.test)} test rows"))
    found = workbench.evaluate_models(loaded, splits, subjects)
    judged = gates_of(loaded, found)
    if html:
        write_whole(html, render(evaluation_page(loaded.name, splits.sha256, found, judged)))
    if not as_json:
        typer.echo("\n".join(aligned(_lines(found))))
    answer({"models": [_told(one) for one in found], "gates": judged} if as_json else {"gates": judged}, as_json)
    if not all(gate.passed for gate in judged):
        raise GateFailed(reason(judged))


def _told(one: "Measured") -> dict[str, object]:
    measure = one.evaluation.measure
    quality = {"measure": measure, "quality": one.quality.value, "low": one.quality.low, "high": one.quality.high}
    return {"name": one.name, **quality, "metrics": one.evaluation.metrics, "per_class": one.evaluation.per_class}


def _lines(found: "list[Measured]") -> list[tuple[str, ...]]:
    first = found[0]
    rows = [("", *(one.name for one in found))]
    rows += [(name, *(f"{one.evaluation.metrics[name]:.4f}" for one in found)) for name in first.evaluation.metrics]
    rows += [(f"{first.evaluation.measure}, 95 %", *(f"{one.quality.low:.4f} to {one.quality.high:.4f}" for one in found))]
    return rows + [(name, *(f"{one.evaluation.per_class[name]:.4f}" for one in found)) for name in first.evaluation.per_class]
