"""From checked models to bundles, and what bundles say."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.bundle import Bundle
from model_tools.model_files import checked, read_bounded
from model_tools.storage import write_whole
from model_tools.terminal import BundleFile, Json, ModelFile, Out, TaskFile, Version, answer, show, summary

app = typer.Typer()


@app.command()
def pack(
    task: TaskFile,
    fp32: ModelFile,
    out: Out,
    version: Version,
    int8: Annotated[
        Path | None, typer.Argument(help="The same as int8; without it the bundle has one variant.", exists=True, dir_okay=False)
    ] = None,
    parent: Annotated[
        Path | None, typer.Option("--parent", help="The bundle it succeeds: its grid and conditions are kept.", exists=True, dir_okay=False)
    ] = None,
    also: Annotated[
        list[Path] | None, typer.Option("--also", help="The same model as TFLite, a variant of its own.", exists=True, dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a model that passes the task's gates into a bundle: known answers, reference, model card, bill of materials.

    Of a model that `import` has made, its record beside it goes into the lineage.

    \b
    Examples:
      model-tools pack task.toml fp32.onnx int8.onnx --out digits.bundle --version 1.0
      model-tools pack task.toml forest.onnx --out digits.bundle --version 1.0
      model-tools pack task.toml fp32.onnx int8.onnx --also int8.tflite --out digits.bundle --version 1.0
    """
    from model_tools import workbench
    from model_tools.importing.record import origin_of
    from model_tools.packing import Files, pack_models

    models = [checked(read_bounded(path), "onnxruntime") for path in (fp32, int8) if path]
    further = [checked(read_bounded(path), "litert") for path in also or []]
    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    files = Files(models[0], models[1] if int8 else None, further, origin_of(fp32))
    built = pack_models(loaded, splits, files, version, show, parent)
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
def inspect(
    bundle: BundleFile,
    entry: Annotated[str | None, typer.Option("--entry", help="Print one entry as it is, such as bom.cdx.json.")] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle whole and show what it says of itself: its entries with their digests, its lineage, its model card. `verify` checks signatures.

    \b
    Examples:
      model-tools inspect digits.bundle
      model-tools inspect digits.bundle --entry bom.cdx.json
      model-tools inspect digits.bundle --json
    """
    opened = Bundle(bundle)
    signature = bundle.with_name(f"{bundle.name}.sig")
    if entry:
        sys.stdout.buffer.write(opened.read(entry))
        return
    if as_json:
        told = {**summary(opened), "manifest": opened.manifest, "signature": signature.name if signature.exists() else None}
        answer(told, as_json)
        return
    for line in _tree(opened, signature):
        typer.echo(line)
    typer.echo("\n" + opened.read(opened.manifest.card).decode())
    answer(summary(opened), as_json)


def _tree(bundle: Bundle, signature: Path) -> Iterator[str]:
    yield f"{bundle.manifest.task} {bundle.manifest.version}   {bundle.length:,} bytes, sha256 {bundle.sha256}"
    entries = bundle.manifest.entries
    width = max(map(len, entries))
    for number, (name, found) in enumerate(entries.items(), 1):
        branch = "└─" if number == len(entries) else "├─"
        yield f"{branch} {name:{width}}  {found.length:>11,}  {found.sha256}"
    yield f"signature beside it: {signature.name} (model-tools verify checks it)" if signature.exists() else "no signature beside it"
