"""The best int8 model by measurement: ranges by signal-to-noise, then the layers that quantizing hurts most back to float until quality holds."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np

from model_tools.errors import Failed
from model_tools.quantize.calibration import Calibration, calibrate
from model_tools.quantize.noise import signal_to_noise
from model_tools.quantize.recipe import Quantized, Recipe
from model_tools.sections import Quantization, RangeRule

Quality = Callable[[bytes], float]
"""Of a model on rows with known answers: the higher the better, at most 1."""
_ROUNDING = 1e-9
_SENSITIVITY_ROWS = 64
_NOISY_DB = 20.0
_ALIKE_DB = 1.0
"""An earlier recipe wins where a later one is not better by more: less is chance."""
_BUDGET = Quantization().budget


def quantize_int8(
    onnx_bytes: bytes, rows: np.ndarray, *, ranges: RangeRule | None = None, budget: float = _BUDGET, quality: Quality | None = None
) -> bytes:
    """The int8 model's bytes, as `best_int8` finds it for these calibration rows. Raises what `calibrate` and `best_int8` raise."""
    return best_int8(calibrate(onnx_bytes, rows), ranges, budget, quality).model


def best_int8(calibration: Calibration, ranges: RangeRule | None, budget: float, quality: Quality | None) -> Quantized:
    """Of the rules for ranges (or by `ranges` alone), with and without equalized channels, the one with the least noise on the calibration rows.
    Where `quality` is given and falls by more than `budget`, the layers that lose most by themselves stay float, as few as will do. The same
    arguments give the same bytes. Raises Failed where nothing can be quantized."""
    recipe, model = least_noise(calibration, ranges)
    if quality is None:
        return Quantized(recipe, model, (*calibration.warnings, *_noisy(calibration, model)))
    wanted = quality(calibration.graph.model.SerializeToString()) - budget - _ROUNDING
    if quality(model) >= wanted:
        return Quantized(recipe, model, calibration.warnings)
    return _mixed(calibration, recipe, lambda made: quality(made) >= wanted)


def least_noise(calibration: Calibration, ranges: RangeRule | None) -> tuple[Recipe, bytes]:
    """Of all int8 recipes without excluded layers."""
    rules = get_args(RangeRule) if ranges is None else (ranges,)
    levels = (False, True) if calibration.equalized is not None else (False,)
    best: tuple[float, Recipe, bytes] | None = None
    for recipe in (Recipe("int8", rule, equalized=level) for level in levels for rule in rules):
        model = calibration.write(recipe)
        measured = signal_to_noise(calibration, model)
        if best is None or measured > best[0] + _ALIKE_DB:
            best = measured, recipe, model
    return best[1:]


def sensitivities(calibration: Calibration, recipe: Recipe) -> dict[str, float]:
    """By layer the noise of the model's answers, in dB below the signal, when that layer alone is int8; the most harmful first."""
    names = [node.name for node in calibration.graph.layers]
    found = {}
    for name in names:
        alone = calibration.write(replace(recipe, excluded=tuple(other for other in names if other != name)))
        found[name] = signal_to_noise(calibration, alone, _SENSITIVITY_ROWS)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _mixed(calibration: Calibration, recipe: Recipe, holds: Callable[[bytes], bool]) -> Quantized:
    """By bisection: quality grows, but for chance, with the layers that stay float."""
    order = list(sensitivities(calibration, recipe))
    few, many = 0, len(order)
    found: tuple[Recipe, bytes] | None = None
    while many - few > 1:
        middle = (few + many) // 2
        tried = replace(recipe, excluded=tuple(order[:middle]))
        model = calibration.write(tried)
        if holds(model):
            many, found = middle, (tried, model)
        else:
            few = middle
    if found is None:
        raise Failed("no layer can be int8 within the budget: keep the float model", field="quantize.budget", code="int8-too-costly")
    kept = ", ".join(found[0].excluded)
    told = f"mixed-precision: {many} of {len(order)} layers stay float, or int8 would cost more than quantize.budget: {kept}"
    return Quantized(*found, (*calibration.warnings, told))


def _noisy(calibration: Calibration, model: bytes) -> list[str]:
    measured = signal_to_noise(calibration, model)
    return [f"int8-noise: the answers are only {measured:.1f} dB above the noise of int8"] if measured < _NOISY_DB else []
