"""From a task, or a retraining job, to a bundle."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet_contract.bundle import Bundle
from fleet_contract.job import Progress
from model_tools.errors import GateFailed
from model_tools.storage import write_whole
from model_tools.terminal import Json, Out, TaskFile, Version, answer, show, summary

app = typer.Typer()


@app.command()
def build(task: TaskFile, out: Out, version: Version, as_json: Json = False) -> None:
    """Make a bundle from a task file: train, export, quantize, evaluate, judge, pack.

    \b
    Example:
      model-tools build examples/digits/task.toml --out digits.bundle --version 1.0
    """
    from model_tools.build import build as make
    from model_tools.workbench import load_task

    built = make(load_task(task), version, show)
    write_whole(out, built.bundle)
    answer({**summary(Bundle(built.bundle)), "metrics": built.metrics, "gates": built.gates, "file": str(out)}, as_json)


@app.command()
def job(folder: Annotated[Path, typer.Argument(help="Holds spec.json and the samples.", exists=True, file_okay=False)]) -> None:
    """Do one retraining job and leave result.json in its folder; progress as JSON lines on stdout. The fleet server starts this.

    \b
    Example:
      model-tools job /var/lib/fleet/jobs/7
    """
    from model_tools.jobs import run_job

    result = run_job(folder, _show_line, datetime.now(UTC))
    if not result.accepted:
        raise GateFailed(result.reason)


def _show_line(progress: Progress) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(progress) + b"\n")
    sys.stdout.flush()
