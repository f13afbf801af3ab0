"""What models cost to run here."""

from dataclasses import asdict
from typing import Annotated

import typer

from model_tools.errors import BadInput
from model_tools.terminal import Json, aligned, answer

app = typer.Typer()

_HEAD = ("model", "p50 ms", "p99 ms", "load ms", "memory MB", "bytes")


@app.command()
def bench(
    models: Annotated[list[str], typer.Argument(help="ONNX or TFLite files, bundles, or variants of a bundle as BUNDLE:VARIANT.")],
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="Of one model.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=10, max=100_000, help="Calls of each model; several models take turns.")] = 200,
    as_json: Json = False,
) -> None:
    """Measure latency, loading time and memory of models on this machine, one row at a time.

    \b
    Examples:
      model-tools bench fp32.onnx int8.onnx
      model-tools bench digits.bundle --threads 2 --json
    """
    from model_tools.evaluate.timing import time_models
    from model_tools.model_files import read_models

    found = [pair for given in models for pair in read_models(given).items()]
    if len({name for name, _ in found}) != len(found):
        raise BadInput("two models have the same name: rename one", field="models")
    opened = dict(found)
    timings = time_models(opened, threads=threads, rounds=rounds)
    if as_json:
        told = {name: {**asdict(timing), "bytes": len(opened[name].data)} for name, timing in timings.items()}
        answer({"threads": threads, "rounds": rounds, "models": told}, as_json)
        return
    rows = [
        (name, f"{t.p50_ms:.3f}", f"{t.p99_ms:.3f}", f"{t.load_ms:.2f}", f"{t.memory_mb:.1f}", f"{len(opened[name].data):,}")
        for name, t in timings.items()
    ]
    for line in aligned([_HEAD, *rows]):
        typer.echo(line)
