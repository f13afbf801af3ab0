"""A task's quantized models: calibrated on its training rows, judged on its validation rows."""

from dataclasses import dataclass, replace
from typing import get_args

from model_tools.adopt.isolation import Bounds, isolated
from model_tools.data.dataset import Dataset, Splits
from model_tools.errors import Failed
from model_tools.evaluate.answering import fit_answer
from model_tools.evaluate.scoring import compare, evaluate
from model_tools.export.tflite import quantize_tflite
from model_tools.model_files import ModelFile
from model_tools.quantize.calibration import Calibration, calibrate
from model_tools.quantize.float_graph import FloatGraph, open_float
from model_tools.quantize.int8 import Quality, best_int8, least_noise
from model_tools.quantize.recipe import Kind, Quantized, Recipe
from model_tools.quantize.weights import write_dynamic, write_half, write_weight_only
from model_tools.running import logits
from model_tools.sections import RangeRule
from model_tools.task import Task
from model_tools.train.training import calibration as calibration_rows

_STORED = {"dynamic": write_dynamic, "fp16": write_half, "weights": write_weight_only}
_ONE_ROW = 1.0
"""One row answered otherwise is chance, whatever share of a small validation set it is."""


@dataclass(frozen=True)
class Judged:
    """A model and what it does on the validation rows: `quality` as Evaluation.quality; `drop` is what it lost against the float model; `agreement`
    and `sqnr_db` as of scoring.Comparison."""

    made: Quantized
    quality: float
    drop: float
    agreement: float
    sqnr_db: float

    @property
    def bytes(self) -> int:
        return len(self.made.model)


def quantize(task: Task, splits: Splits, fp32: bytes, new: Dataset | None = None, kind: Kind = "int8") -> Quantized:
    """One recipe. int8 is the best by measurement, with as many layers left float as quantize.budget asks for; where none can be int8 within it,
    all are, and a warning says so: a bundle holds the float model, too. The same arguments give the same bytes. `new` labels calibrate, too.

    Raises BadInput for a model that does not open or run, BadData for rows that cannot calibrate, Failed where nothing can be made smaller."""
    if kind == "float":
        return Quantized(Recipe("float"), fp32)
    if kind != "int8":
        return _stored(kind, open_float(fp32))
    calibration = calibrate(fp32, calibration_rows(task, splits, new))
    return _int8(task, calibration, quality_of(task, splits, fp32), allowed_drop(task, splits))


def quantize_file(task: Task, splits: Splits, file: ModelFile, kind: Kind = "int8", bounds: Bounds = Bounds()) -> Quantized:
    """The same of a file from anywhere, ONNX or TFLite, opened in a child process under `bounds`. Raises BadInput where it needs more, too."""
    with isolated(bounds) as child:
        if file.runtime == "onnxruntime":
            return child.ask("model", quantize, task, splits, file.data, None, kind)
        best = kind == "int8" and task.quantize.ranges is None
        recipe = None if best else Recipe(kind, task.quantize.ranges or "minmax")
        return child.ask("model", quantize_tflite, file.data, calibration_rows(task, splits), recipe)


def judge_all(task: Task, splits: Splits, fp32: bytes) -> list[Judged]:
    """The float model first, then whatever it can be made into: half precision, stored or dynamic int8, int8 by every rule for its ranges and, where
    these cost more than quantize.budget, with layers left float. Raises as `quantize` does."""
    calibration = calibrate(fp32, calibration_rows(task, splits))
    quality, allowed = quality_of(task, splits, fp32), allowed_drop(task, splits)
    made = [Quantized(Recipe("float"), fp32), *_stores(calibration.graph)]
    for rule in get_args(RangeRule) if task.quantize.ranges is None else (task.quantize.ranges,):
        recipe, model = least_noise(calibration, rule)
        made.append(Quantized(recipe, model, calibration.warnings))
    best = _int8(task, calibration, quality, allowed)
    if best.recipe not in [other.recipe for other in made]:
        made.append(best)
    return _judge(task, splits, made)


def _int8(task: Task, calibration: Calibration, quality: Quality, allowed: float) -> Quantized:
    try:
        return best_int8(calibration, task.quantize.ranges, allowed, quality)
    except Failed as error:
        if error.code != "int8-too-costly":
            raise
    found = best_int8(calibration, task.quantize.ranges, allowed, None)
    return replace(found, warnings=(*found.warnings, f"int8-too-costly: int8 costs more than quantize.budget {task.quantize.budget:g}"))


def _stored(kind: Kind, graph: FloatGraph) -> Quantized:
    return Quantized(Recipe(kind), _STORED[kind](graph))


def _stores(graph: FloatGraph) -> list[Quantized]:
    """Those of the simple recipes that this model can take."""
    found = []
    for kind in _STORED:
        try:
            found.append(_stored(kind, graph))
        except Failed:
            continue
    return found


def allowed_drop(task: Task, splits: Splits) -> float:
    """In quality on the validation rows: quantize.budget, but at least one row."""
    return max(task.quantize.budget, _ONE_ROW / len(splits.validation))


def quality_of(task: Task, splits: Splits, fp32: bytes) -> Quality:
    """Of other models on the validation rows, whose answers are read as those of `fp32`."""
    output = fit_answer(task, "logits", logits(fp32, splits.validation.inputs), splits.validation)
    return lambda model: evaluate(model, splits.validation, output).quality


def _judge(task: Task, splits: Splits, made: list[Quantized]) -> list[Judged]:
    output = fit_answer(task, "logits", logits(made[0].model, splits.validation.inputs), splits.validation)
    scores = [evaluate(other.model, splits.validation, output) for other in made]
    told = [compare(scores[0], score, output) for score in scores]
    return [
        Judged(other, score.quality, one.quality_drop, one.agreement, one.sqnr_db)
        for other, score, one in zip(made, scores, told, strict=True)
    ]
