"""The `model-tools` command. Exit codes: 0 done, 1 failed, 2 bad input or usage, 3 a gate refused the model.

torch, onnx and tuf are imported by the commands that need them: `--help` answers at once.
"""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from fleet_contract.errors import ContractError
from model_tools.commands import (
    building,
    comparing,
    data,
    evaluating,
    explaining,
    exporting,
    fitting,
    importing,
    packing,
    quantizing,
    timing,
    training,
    verifying,
)
from model_tools.errors import BadInput, Failed, ToolError
from model_tools.keys import cli as keys_cli
from model_tools.sign import cli as release_cli

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for command in (
    training,
    exporting,
    quantizing,
    evaluating,
    comparing,
    explaining,
    importing,
    packing,
    building,
    timing,
    fitting,
    verifying,
    release_cli,
):
    app.add_typer(command.app)
app.add_typer(data.app, name="data")
app.add_typer(keys_cli.app, name="keys")


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


def _fail(error: ToolError | ContractError | OSError, given: Sequence[str]) -> None:
    """One line on stderr, and the exit code of this kind of error."""
    if isinstance(error, OSError):
        error = Failed(str(error))
    told = {"code": error.code, "message": str(error), "field": error.field, "limit": error.limit}
    typer.echo(msgspec.json.encode({"error": told}) if "--json" in given else f"error: {error}", err=True)
    sys.exit(error.exit_code if isinstance(error, ToolError) else BadInput.exit_code)
