"""Whether a model will run on a board."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_tools.errors import GateFailed
from model_tools.terminal import Json, aligned, answer

if TYPE_CHECKING:
    from model_tools.boards.fitting import Fitted, Limits

app = typer.Typer()

_MB = 1024**2


@app.command()
def fits(
    model: Annotated[str, typer.Argument(help="An ONNX or TFLite file, a bundle, or BUNDLE:VARIANT.")],
    profile: Annotated[str, typer.Argument(help="A hardware profile, such as raspberry-pi-5 (docs/hardware-profiles.md).")],
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", min=1e-3, help="What an answer may take; a bundle says it itself.")
    ] = None,
    memory_mb: Annotated[float | None, typer.Option("--memory-mb", min=1, help="What a worker may take; a bundle says it itself.")] = None,
    measure: Annotated[bool, typer.Option(help="Time it here, where this machine is of the board's architecture.")] = True,
    as_json: Json = False,
) -> None:
    """Say whether a model will run on a board: operators by backend, memory, latency (exit code 3: it does not fit, and why).

    \b
    Examples:
      model-tools fits int8.onnx raspberry-pi-5
      model-tools fits digits.bundle:int8 armv7-512mb --latency-ms 50 --json
    """
    from model_tools.boards.fitting import Limits, fits
    from model_tools.model_files import read_model

    name, opened = read_model(model)
    found = fits(name, opened, profile, _limits(model, Limits(memory_mb, latency_ms)), measure=measure)
    verdict = found.verdict
    if as_json:
        answer({"model": name, "profile": profile, **asdict(verdict), "measured": found.timing and asdict(found.timing)}, as_json)
    else:
        for line in _lines(found):
            typer.echo(line)
    if not verdict.fits:
        raise GateFailed(f"{name} does not fit {profile}: {'; '.join(verdict.reasons)}", field="profile", code="does-not-fit")


def _limits(model: str, given: "Limits") -> "Limits":
    """Those given, else the bundle's own."""
    from fleet_contract.bundle import Bundle
    from model_tools.boards.fitting import Limits

    path = Path(model if Path(model).exists() else model.rsplit(":", 1)[0])
    if path.suffix != ".bundle":
        return given
    own = Bundle(path).manifest.limits
    return Limits(given.memory_mb or own.memory_mb, given.latency_ms or own.latency_ms)


def _lines(found: "Fitted") -> list[str]:
    verdict, timing = found.verdict, found.timing
    figures = aligned([("backend", "kind", "operators"), *((one.backend, one.kind, _share(one.share)) for one in verdict.backends)])
    words = ["", *(one.reason or one.coverage for one in verdict.backends)]
    measured = f"; {timing.p50_ms:.3g} ms measured here" if timing else ""
    return [
        *(f"{line}  {said}".rstrip() for line, said in zip(figures, words, strict=True)),
        f"memory: about {verdict.memory_mb:.1f} MB (weights {verdict.weight_bytes / _MB:.2f}, activations {verdict.peak_bytes / _MB:.2f} at most)",
        f"latency: about {verdict.estimated_ms:.3g} ms on its CPU (an estimate, within a factor of 4; {verdict.macs:,} multiplications){measured}",
        *(f"warning: {one}" for one in verdict.warnings),
        "it fits" if verdict.fits else "it does not fit",
    ]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
