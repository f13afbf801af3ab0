"""What there is to know of a task's data before anything is learnt from it."""

from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.job import Progress
from model_tools.errors import GateFailed
from model_tools.storage import write_whole
from model_tools.terminal import Json, TaskFile, answer, reachable, show

app = typer.Typer(no_args_is_help=True, help="Look at a task's data.")


@app.command()
def check(
    task: TaskFile,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report there.", callback=lambda out: out and reachable(out))] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    as_json: Json = False,
) -> None:
    """Judge a task's data: leakage between training and test, doubtful labels, duplicates, drift, columns (exit code 3: failed).

    \b
    Examples:
      model-tools data check task.toml
      model-tools data check task.toml --html report.html --json
    """
    from model_tools import workbench
    from model_tools.check.checking import reason
    from model_tools.check.page import make_page
    from model_tools.report.page import render

    show(Progress("data", 0.0, "reading the task's data, looking for what is wrong"))
    loaded = workbench.load_task(task)
    splits, checked = workbench.check_task(loaded, strict)
    if html is not None:
        write_whole(html, render(make_page(loaded, splits, checked)))
    show(Progress("data", 1.0, checked.verdict))
    told = {
        "verdict": checked.verdict,
        "split_by": checked.split_by,
        "sha256": checked.sha256,
        "rows": checked.rows,
        "counts": checked.counts,
    }
    if as_json:
        answer({**told, "findings": checked.findings}, as_json)
    else:
        for finding in checked.findings:
            typer.echo(f"{finding.severity}: {finding.code}: {finding.message}")
        answer(told, as_json)
    if checked.verdict == "failed":
        raise GateFailed(reason(checked))


@app.command()
def card(
    task: TaskFile,
    out: Annotated[Path | None, typer.Option("--out", help="Write it there.", callback=lambda out: out and reachable(out))] = None,
    as_json: Json = False,
) -> None:
    """Describe a task's data: digest, rows, parts, classes, the range of each column (Markdown).

    \b
    Examples:
      model-tools data card task.toml
      model-tools data card task.toml --out DATA.md --json
    """
    from model_tools import workbench

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    text = workbench.data_card(loaded, splits)
    if out is not None:
        write_whole(out, text.encode())
    told = {"sha256": splits.sha256, "split_by": splits.by, "columns": splits.columns, "classes": splits.classes, "notes": splits.notes}
    told["rows"] = dict(zip(("train", "validation", "test"), map(len, splits.parts), strict=True))
    if as_json:
        answer({**told, "card": text}, as_json)
    elif out is None:
        typer.echo(text, nl=False)
    else:
        answer({"file": str(out), "sha256": splits.sha256}, as_json)
