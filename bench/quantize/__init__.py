"""What quantizing costs and saves: float, ours, ONNX Runtime's plain defaults and (--peers) NNCF on four nets; TFLite's own ranges beside ours.

Accuracy is that on rows that nobody has seen; agreement, the share of answers that are the float model's; SQNR, the signal of the outputs over
what quantizing added, in dB. Latency is half of all calls with one row, in turns.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Aim, Report, skip

if TYPE_CHECKING:
    from bench.quantize.contenders import Line

_NEEDED = ("torch", "sklearn", "onnx", "onnxruntime")
_HEAD = ("", "accuracy", "agreement", "SQNR dB", "bytes", "times smaller", "us a row", "")
_ROUNDS = 300
_MOST_LOST_POINTS = 0.5
_TIMES_SMALLER = 3.5
_TFLITE_DB = 35.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", action="store_true", help="measure NNCF too, in an environment of its own")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgefleet-bench", help="where that environment is kept")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that it is made with")


def run(peers: bool, cache: Path, python: str) -> Report:
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        return skip("quantize", f"{', '.join(lacking)} is not installed")
    from bench.quantize import contenders, models, tflite

    table, lines = [_HEAD], []
    cases = models.cases()
    for case in cases:
        made, notes = contenders.make(case, cache if peers else None, python)
        measured = list(contenders.measure(case, made, _ROUNDS))
        lines += measured
        table += [_wide(case.name), *_rows(measured), *[_wide(f"    {note}") for note in notes]]
    found = tflite.measure(cases[0])
    told = found or {"not measured: ai_edge_quantizer is not installed": float("nan")}
    table += [_wide("TFLite, digits of varying brightness"), *[_wide(f"  {maker}", f"{db:.1f}") for maker, db in told.items()]]
    return Report("quantize", table, [*_aims(lines), Aim("dB of TFLite", found and round(found["ours"], 1), _TFLITE_DB)])


def _wide(words: str, sqnr_db: str = "") -> tuple[str, ...]:
    return words, "", "", sqnr_db, *[""] * (len(_HEAD) - 4)


def _rows(lines: Sequence["Line"]) -> list[tuple[str, ...]]:
    return [
        (
            f"  {line.maker}",
            f"{line.accuracy:.4f}",
            f"{line.agreement:.4f}",
            f"{line.sqnr_db:.1f}",
            f"{line.bytes}",
            f"{lines[0].bytes / line.bytes:.2f}",
            f"{line.latency_us:.1f}",
            line.said,
        )
        for line in lines
    ]


def _aims(lines: Sequence["Line"]) -> list[Aim]:
    """The worst of all cases each; a net is slower without a word only where nothing is said of it."""
    by_case: dict[str, dict[str, Line]] = {}
    for line in lines:
        by_case.setdefault(line.case.name, {})[line.maker] = line
    cases = list(by_case.values())
    lost = max(100 * (case["float"].accuracy - case["ours"].accuracy) for case in cases)
    gained = min(case["ours"].sqnr_db - case["onnxruntime defaults"].sqnr_db for case in cases)
    smaller = min(case["float"].bytes / case["ours"].bytes for case in cases if case["ours"].case.heavy)
    return [
        Aim("points of accuracy lost", round(lost, 3), _MOST_LOST_POINTS, at_most=True),
        Aim("dB over plain defaults", round(gained, 2), 0.0),
        Aim("times smaller where weights dominate", round(smaller, 2), _TIMES_SMALLER),
        Aim("slower than float without a word", float(sum(_silently_slower(case) for case in cases)), 0.0, at_most=True),
    ]


def _silently_slower(case: Mapping[str, "Line"]) -> bool:
    from bench.quantize.contenders import is_slower

    return is_slower(case["ours"], case["float"]) and not case["ours"].said
