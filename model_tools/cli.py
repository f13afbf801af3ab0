"""The `model-tools` command. Exit codes: 0 done, 1 failed, 2 bad input or usage, 3 a gate refused the model.

torch, onnx and tuf are imported by the commands that need them: `--help` answers at once.
"""

import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet_contract.bundle import Bundle
from fleet_contract.errors import ContractError
from fleet_contract.job import Progress
from model_tools.errors import BadInput, Failed, GateFailed, ToolError
from model_tools.gates import judge, reason
from model_tools.keys import cli as keys_cli
from model_tools.sign import cli as release_cli
from model_tools.storage import write_whole
from model_tools.terminal import BundleFile, Json, Out, answer, show, summary

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(release_cli.app)
app.add_typer(keys_cli.app, name="keys")


TaskFile = Annotated[Path, typer.Argument(help="The task file (TOML).", exists=True, dir_okay=False)]
ModelFile = Annotated[Path, typer.Argument(help="An ONNX model.", exists=True, dir_okay=False)]
Version = Annotated[str, typer.Option("--version", help="The new bundle's version; each is released once.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(given)
    except (ToolError, ContractError, OSError) as error:
        _fail(error, given)
    except Exception as error:  # noqa: BLE001 - the last line of defence of the program
        if "--debug" in given:
            traceback.print_exc()
        mistake = f"a mistake in this program: {type(error).__name__}: {error} (model-tools --debug COMMAND shows where)"
        _fail(Failed(mistake, code="internal"), given)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unforeseen error.")] = False) -> None:
    """Train, export, quantize, evaluate, pack, sign and publish models; run retraining jobs."""


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
def train(task: TaskFile, out: Out, as_json: Json = False) -> None:
    """Train the task's model and keep a checkpoint in the folder --out.

    \b
    Example:
      model-tools train task.toml --out checkpoint
    """
    from model_tools import workbench
    from model_tools.build import staged

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    workbench.save_checkpoint(workbench.train(loaded, splits, staged(show, "train", 0, 1)), out)
    answer({"checkpoint": str(out), "train_rows": len(splits.train)}, as_json)


@app.command()
def export(
    task: TaskFile, checkpoint: Annotated[Path, typer.Argument(help="What `train` has left.")], out: Out, as_json: Json = False
) -> None:
    """Export a checkpoint to ONNX, the input transform inside the graph.

    \b
    Example:
      model-tools export task.toml checkpoint --out fp32.onnx
    """
    from model_tools import workbench

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    trained = workbench.load_checkpoint(loaded, splits, checkpoint)
    model = workbench.export_onnx(trained, workbench.input_spec(loaded, splits))
    write_whole(out, model)
    answer({"file": str(out), "bytes": len(model)}, as_json)


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


@app.command()
def evaluate(task: TaskFile, fp32: ModelFile, int8: ModelFile, as_json: Json = False) -> None:
    """Measure an fp32 and an int8 model on the task's test data and judge them by its gates (exit code 3: refused).

    \b
    Example:
      model-tools evaluate task.toml fp32.onnx int8.onnx --json
    """
    from model_tools import workbench
    from model_tools.build import measure, measured

    loaded = workbench.load_task(task)
    found = measure(loaded, workbench.read_splits(loaded), fp32.read_bytes(), int8.read_bytes())
    judged = judge(loaded.gates, found.scores())
    per_class = {"fp32": found.fp32_test.per_class, "int8": found.int8_test.per_class}
    answer({"metrics": measured(found), "per_class": per_class, "gates": judged}, as_json)
    if not all(gate.passed for gate in judged):
        raise GateFailed(reason(judged))


@app.command()
def pack(
    task: TaskFile,
    fp32: ModelFile,
    int8: ModelFile,
    out: Out,
    version: Version,
    parent: Annotated[Path | None, typer.Option("--parent", help="The bundle it succeeds: its grid and conditions are kept.")] = None,
    as_json: Json = False,
) -> None:
    """Pack two models that pass the task's gates into a bundle: known answers, reference, model card.

    \b
    Example:
      model-tools pack task.toml fp32.onnx int8.onnx --out digits.bundle --version 1.0
    """
    from model_tools import workbench
    from model_tools.build import measure, release

    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    candidate = measure(loaded, splits, fp32.read_bytes(), int8.read_bytes())
    built = release(loaded, splits, candidate, version, show, Bundle(parent) if parent else None)
    write_whole(out, built.bundle)
    answer({**summary(Bundle(built.bundle)), "gates": built.gates, "file": str(out)}, as_json)


@app.command()
def adopt(
    description: Annotated[
        Path, typer.Argument(help="Says what the models are (TOML; docs/adopting-models.md).", exists=True, dir_okay=False)
    ],
    out: Out,
    version: Version,
    memory_mb: Annotated[int, typer.Option("--memory-mb", min=256, help="Address space that a model may take here.")] = 8_192,
    time_s: Annotated[float, typer.Option("--time-s", min=1, help="What one variant may take for all samples.")] = 600,
    as_json: Json = False,
) -> None:
    """Pack ONNX or TFLite models that were made elsewhere: known answers from samples, reference, model card.

    \b
    Examples:
      model-tools adopt keywords.toml --out keywords.bundle --version 1.0
      model-tools adopt faces.toml --out faces.bundle --version 2.1 --json
    """
    from model_tools.adopt.adoption import adopt as make
    from model_tools.adopt.description import load_description
    from model_tools.adopt.isolation import Bounds

    write_whole(out, make(load_description(description), version, Bounds(memory_mb, time_s)))
    answer({**summary(Bundle(out)), "file": str(out)}, as_json)


@app.command()
def inspect(bundle: BundleFile, as_json: Json = False) -> None:
    """Check a bundle whole and show what it says of itself; without --json its model card.

    \b
    Example:
      model-tools inspect digits.bundle --json
    """
    opened = Bundle(bundle)
    if as_json:
        answer({**summary(opened), "manifest": opened.manifest}, as_json)
    else:
        typer.echo(opened.read(opened.manifest.card).decode())
        answer(summary(opened), as_json)


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


def _fail(error: ToolError | ContractError | OSError, given: Sequence[str]) -> None:
    """One line on stderr, and the exit code of this kind of error."""
    if isinstance(error, OSError):
        error = Failed(str(error))
    told = {"code": error.code, "message": str(error), "field": error.field, "limit": error.limit}
    typer.echo(msgspec.json.encode({"error": told}) if "--json" in given else f"error: {error}", err=True)
    sys.exit(error.exit_code if isinstance(error, ToolError) else BadInput.exit_code)
