"""What the commands of this program have in common: options, and the way they answer."""

import getpass
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet_contract.bundle import Bundle
from fleet_contract.job import Progress
from model_tools.errors import BadInput
from model_tools.keys import passphrases
from model_tools.keys.passphrases import Passphrase

_BAR_CHARS = 24


def reachable(out: Path) -> Path:
    """Refuse a folder that is not there now, not after an hour of training."""
    if not out.absolute().parent.is_dir():
        raise BadInput(f"the folder {out.absolute().parent} does not exist", field="out")
    return out


TaskFile = Annotated[Path, typer.Argument(help="The task file (TOML).", exists=True, dir_okay=False)]
ModelFile = Annotated[Path, typer.Argument(help="An ONNX model.", exists=True, dir_okay=False)]
TaskOption = Annotated[Path, typer.Option("--task", help="The task file (TOML).", exists=True, dir_okay=False)]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", help="Write a report: one HTML file.", callback=lambda path: path and reachable(path))
]
Version = Annotated[str, typer.Option("--version", help="The new bundle's version; each is released once.")]
BundleFile = Annotated[Path, typer.Argument(help="A packed bundle.", exists=True, dir_okay=False)]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.", callback=reachable)]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="Passphrase or PIN: a file for all keys, or a folder of files called as the keys.", exists=True),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]


def summary(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    variants = {v.name: manifest.entries[v.entry].length for v in manifest.variants}
    return {"task": manifest.task, "version": manifest.version, "sha256": bundle.sha256, "bytes": bundle.length, "variants": variants}


def answer(told: dict[str, object], as_json: bool) -> None:
    """One JSON object for scripts, lines for people: `gates` by their verdicts, nothing of what is None or empty."""
    if as_json:
        typer.echo(msgspec.json.encode(told))
        return
    for name, value in told.items():
        if name == "gates":
            for gate in value:
                typer.echo(f"{'passed' if gate.passed else 'FAILED'}: {gate.rule}")
        else:
            for line in lines(name, msgspec.to_builtins(value)):
                typer.echo(line)


def lines(name: str, value: object) -> list[str]:
    """Of a value for people: one of single values (`int8 9669, fp32 18775`), or one for each of what it holds. None for what is empty."""
    if isinstance(value, dict):
        if not any(isinstance(held, dict | list) for held in value.values()):
            return [f"{name}: {', '.join(f'{key} {_word(held)}' for key, held in value.items())}"] if value else []
        held = [line for key, held in value.items() for line in lines(str(key), held)]
    elif isinstance(value, list | tuple):
        held = [line for held in value for line in (lines("-", held) if isinstance(held, dict | list | tuple) else [_word(held)])]
    else:
        return [] if value is None else [f"{name}: {_word(value)}"]
    return [f"{name}:", *(f"  {line}" for line in held)] if held else []


def _word(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value:.0f}" if isinstance(value, float) else str(value)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def show(progress: Progress) -> None:
    """A line each where stderr is a file; on a terminal one bar, below the warnings."""
    is_warning = progress.message.startswith("warning")
    if not sys.stderr.isatty() or is_warning:
        typer.echo(f"{progress.share:4.0%} {progress.stage}: {progress.message}", err=True)
        return
    done = round(_BAR_CHARS * min(1.0, progress.share))
    line = f"{progress.share:4.0%} [{'#' * done}{'.' * (_BAR_CHARS - done)}] {progress.stage}: {progress.message}"
    width = shutil.get_terminal_size().columns - 1
    typer.echo(f"\r{line[:width]:{width}}", err=True, nl=progress.share >= 1)


def passphrase_from(plain: bool, file: Path | None) -> Passphrase:
    """From `file`, or else from the terminal; with `plain` new keys have none."""
    if file:
        return passphrases.from_file(file)
    return passphrases.unencrypted if plain else passphrases.prompted(_prompt)


def _prompt(question: str, twice: bool) -> str:
    if not sys.stdin.isatty():
        raise BadInput(f"{question}: there is no terminal to ask at; give --passphrase-file", field="passphrase")
    first = getpass.getpass(f"{question}: ")
    if twice and getpass.getpass("Once more: ") != first:
        raise BadInput("the two are not the same", field="passphrase")
    return first
