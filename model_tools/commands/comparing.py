"""Two models against each other."""

from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.job import Progress
from model_tools.errors import GateFailed
from model_tools.gates import reason
from model_tools.storage import write_whole
from model_tools.terminal import HtmlFile, Json, TaskOption, aligned, answer, show

app = typer.Typer()
Model = Annotated[str, typer.Argument(help="An .onnx or .tflite file, or BUNDLE[:VARIANT].")]


@app.command()
def compare(
    a: Model,
    b: Model,
    task: TaskOption,
    html: HtmlFile = None,
    gate: Annotated[Path | None, typer.Option("--gate", help="Limits on figures (TOML).", exists=True, dir_okay=False)] = None,
    no_timing: Annotated[
        bool, typer.Option("--no-timing", help="Measure no latency and memory: the same files give the same answer.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resamples behind the intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """What B gains and loses against A on the task's test rows, and how sure that is (exit code 3: a gate of --gate failed).

    \b
    Examples:
      model-tools compare fp32.onnx int8.onnx --task task.toml --html report.html
      model-tools compare old.bundle new.bundle:int8 --task task.toml --gate gates.toml --json
    """
    from model_tools import workbench
    from model_tools.compare.figures import check_wanted, figures, judge_figures, load_gates
    from model_tools.report.comparison import comparison_page, headline
    from model_tools.report.page import render

    limits = load_gates(gate) if gate else []
    check_wanted(limits, not no_timing)
    loaded = workbench.load_task(task)
    found = workbench.compare_models(
        loaded,
        workbench.read_splits(loaded),
        workbench.open_subject(a),
        workbench.open_subject(b),
        seed=seed,
        timed=not no_timing,
        tell=lambda share, words: show(Progress("compare", share, words)),
    )
    measured = figures(found)
    judged = judge_figures(limits, measured)
    if html:
        write_whole(html, render(comparison_page(found, judged)))
    if as_json:
        answer({"headline": headline(found), "figures": measured, "warnings": found.warnings, "gates": judged}, as_json)
    else:
        _show(headline(found), measured, found.warnings)
        answer({"gates": judged}, as_json)
    if not all(one.passed for one in judged):
        raise GateFailed(reason(judged))


def _show(first: str, measured: dict[str, float], warnings: list[str]) -> None:
    """What fits a terminal: A's and B's side by side, then how they differ; the report and --json have the parts and layers."""
    typer.echo(first)
    for words in warnings:
        typer.echo(f"warning: {words}", err=True)
    both = [name.removeprefix("a.") for name in measured if name.startswith("a.") and not name.startswith("a.class.")]
    rows = [("", "A", "B"), *((name, _number(measured[f"a.{name}"]), _number(measured.get(f"b.{name}"))) for name in both)]
    typer.echo("\n".join(aligned(rows)))
    rest = [(name, _number(value)) for name, value in measured.items() if "." not in name]
    typer.echo("\n".join(aligned([("B against A", ""), *rest])))


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
