"""What the commands of this program have in common: options, and the way they answer."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet_contract.bundle import Bundle
from fleet_contract.job import Progress
from model_tools.errors import BadInput


def reachable(out: Path) -> Path:
    """Refuse a folder that is not there now, not after an hour of training."""
    if not out.absolute().parent.is_dir():
        raise BadInput(f"the folder {out.absolute().parent} does not exist", field="out")
    return out


BundleFile = Annotated[Path, typer.Argument(help="A packed bundle.", exists=True, dir_okay=False)]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.", callback=reachable)]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]


def summary(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    variants = {v.name: manifest.entries[v.entry].length for v in manifest.variants}
    return {"task": manifest.task, "version": manifest.version, "sha256": bundle.sha256, "bytes": bundle.length, "variants": variants}


def answer(told: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(told))
        return
    for name, value in told.items():
        if name == "gates":
            for gate in value:
                typer.echo(f"{'passed' if gate.passed else 'FAILED'}: {gate.rule}")
        else:
            typer.echo(f"{name}: {value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()}")


def show(progress: Progress) -> None:
    typer.echo(f"{progress.share:4.0%} {progress.stage}: {progress.message}", err=True)
