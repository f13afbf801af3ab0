"""Which recipe is the best for a model on a board: all are made and measured, and those that no other beats in everything are kept."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware_profiles import catalog
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.data.dataset import Splits
from model_tools.evaluate.timing import time_models
from model_tools.model_files import ModelFile
from model_tools.quantize.judging import Judged, judge_all
from model_tools.quantize.recipe import Quantized
from model_tools.task import Task, check_profiles

_ROUNDS = 200
_ALIKE = 1.05
"""Latencies that differ by less are the same."""


@dataclass(frozen=True)
class Measured:
    """`latency_ms` is half of all calls with one row, in turns with the others; `slower` than the float model."""

    judged: Judged
    latency_ms: float
    slower: bool

    @property
    def title(self) -> str:
        return self.judged.made.recipe.title

    @property
    def made(self) -> Quantized:
        return self.judged.made


@dataclass(frozen=True)
class Search:
    """`tried` begins with the float model; `front` are those that no other beats in quality, size and latency; `chosen` is one of them."""

    tried: tuple[Measured, ...]
    front: tuple[Measured, ...]
    chosen: Measured
    threads: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Half of all calls with one row take at most `ms`, those of the float model `fp32_ms`."""

    ms: float
    fp32_ms: float
    warnings: tuple[str, ...]


def search(task: Task, splits: Splits, fp32: bytes, profile: str = "any", bounds: Bounds = Bounds(), rounds: int = _ROUNDS) -> Search:
    """Latency is measured here, with as many threads as the profile gives a worker; which recipe is chosen may differ from machine to machine.
    Raises what judging.judge_all raises, and BadInput for a model that needs more than `bounds`."""
    with isolated(bounds) as child:
        judged = child.ask("model", judge_all, task, splits, fp32)
    threads, elsewhere = _threads(profile)
    files = {one.made.recipe.title: ModelFile("onnxruntime", one.made.model) for one in judged}
    times = time_models(files, {"input": splits.validation.inputs[:1]}, threads=threads, rounds=rounds, memory=False, bounds=bounds)
    latencies = [times[one.made.recipe.title].p50_ms for one in judged]
    tried = [Measured(one, at, at > latencies[0] * _ALIKE) for one, at in zip(judged, latencies, strict=True)]
    chosen = choose(tried, task.quantize.budget, 1 / len(splits.validation))
    return Search(tuple(tried), tuple(pareto(tried)), chosen, threads, (*chosen.made.warnings, *elsewhere, *_slow(tried)))


def compare_speed(file: ModelFile, made: Quantized, row: np.ndarray, profile: str = "any", bounds: Bounds = Bounds()) -> Speed:
    """A model against what was made of it, as `search` measures, with one `row` float32 (1, ...). Raises BadInput."""
    threads, elsewhere = _threads(profile)
    files = {"float": file, "made": ModelFile(file.runtime, made.model)}
    times = time_models(files, {"input": row}, threads=threads, rounds=_ROUNDS, memory=False, bounds=bounds)
    plain, ours = times["float"].p50_ms, times["made"].p50_ms
    slow = [_slower(made.recipe.title, ours, plain)] if ours > plain * _ALIKE else []
    return Speed(ours, plain, (*elsewhere, *slow))


def pareto(tried: Sequence[Measured]) -> list[Measured]:
    """Those that no other equals in quality, size and latency and beats in one of them."""
    return [one for one in tried if not any(_beats(other, one) for other in tried)]


def choose(tried: Sequence[Measured], budget: float, one_row: float = 0.0) -> Measured:
    """Of those that cost no more than `budget` of quality (or `one_row`) and are no slower than the float model, which is the first, the smallest
    of the fastest. The float model where no other is so."""
    fitting = [
        one for one in tried if one is tried[0] or (one.judged.drop <= max(budget, one_row) and one.latency_ms <= tried[0].latency_ms)
    ]
    fastest = min(one.latency_ms for one in fitting)
    return min((one for one in fitting if one.latency_ms <= fastest * _ALIKE), key=lambda one: (one.judged.bytes, one.judged.drop))


def _beats(one: Measured, other: Measured) -> bool:
    ours, theirs = _figures(one), _figures(other)
    return ours != theirs and all(mine <= its for mine, its in zip(ours, theirs, strict=True))


def _figures(one: Measured) -> tuple[float, int, float]:
    return one.judged.drop, one.judged.bytes, one.latency_ms


def _slow(tried: Sequence[Measured]) -> list[str]:
    return [_slower(one.title, one.latency_ms, tried[0].latency_ms) for one in tried if one.slower]


def _slower(title: str, latency_ms: float, float_ms: float) -> str:
    return f"slower-than-float: {title} takes {latency_ms:.3f} ms a row, float {float_ms:.3f} ms"


def _threads(profile: str) -> tuple[int, list[str]]:
    """And what is to be said where the profile's boards compute otherwise than this machine. Raises BadInput."""
    if profile == "any":
        return 1, []
    check_profiles([profile], "profile")
    board = catalog.load(profile)
    here = platform.machine()
    told = f"other-machine: latency was measured on {here}, {profile} is {board.architecture}: measure there (model-tools bench)"
    return board.worker.threads, [] if here == board.architecture else [told]
