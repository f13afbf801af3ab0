"""Two models against each other."""

from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.job import Progress
from model_tools.errors import GateFailed
from model_tools.gates import reason
from model_tools.storage import write_whole
from model_tools.terminal import HtmlFile, Json, TaskOption, answer, show

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
    told = {"headline": headline(found), "figures": measured if as_json else _few(measured), "warnings": found.warnings, "gates": judged}
    answer(told, as_json)
    if not all(one.passed for one in judged):
        raise GateFailed(reason(judged))


def _few(measured: dict[str, float]) -> dict[str, float]:
    """What fits a terminal: the report and --json have the rest."""
    return {
        name: round(value, 6) for name, value in measured.items() if name.count(".") < 2 and not name.startswith(("a.class", "b.class"))
    }
