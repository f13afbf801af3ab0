"""The workbench as a library: from a task file to checked float32 and int8 ONNX, step by step.

task = load_task(path)
splits = read_splits(task)
checked = check_data(task, splits)
trained = train(task, splits, progress)
fp32 = export_onnx(trained, input_spec(task, splits))
int8 = quantize_int8(fp32, calibration(task, splits))
output = output_spec(task, splits, fp32)
score = evaluate(int8, splits.test, output)
"""

import numpy as np

from fleet_contract.inputs import InputSpec, VectorInput, WindowInput
from fleet_contract.outputs import Anomaly, OutputSpec
from model_tools.boards.fitting import Fitted, fits
from model_tools.check.checking import Checked, check_data, check_task
from model_tools.compare.comparing import Compared, compare_models, evaluate_models
from model_tools.compare.subjects import Subject, open_subject
from model_tools.data.card import make_card as data_card
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.pictures import TENSOR, shape_of
from model_tools.data.reading import read_splits
from model_tools.data.samples import read_samples
from model_tools.data.windows import stride_of
from model_tools.evaluate.answering import fit_answer
from model_tools.evaluate.scoring import Comparison, Evaluation, compare, evaluate
from model_tools.evaluate.timing import Timing, time_models
from model_tools.explain.explaining import Explained, explain_model
from model_tools.export.graph import OUTPUT, export_onnx
from model_tools.export.tflite import export_tflite, quantize_tflite
from model_tools.importing.record import Imported, import_model, write_imported
from model_tools.quantize.int8 import quantize_int8
from model_tools.quantize.judging import quantize, quantize_file
from model_tools.quantize.learning import Learnt, quantize_trained
from model_tools.quantize.recipe import Quantized
from model_tools.quantize.search import search as search_recipes
from model_tools.running import logits
from model_tools.sections import ImageShape, VectorShape, WindowShape
from model_tools.task import Task, load_task
from model_tools.train.checkpoint import load_checkpoint, load_parent, save_checkpoint
from model_tools.train.fit import Progress
from model_tools.train.record import RunRecord, record_run, save_record
from model_tools.train.training import Trained, calibration, cross_validate, first_run, retrain, split_new, train

__all__ = [
    "Checked",
    "Compared",
    "Comparison",
    "Dataset",
    "Evaluation",
    "Explained",
    "Fitted",
    "Imported",
    "Learnt",
    "Progress",
    "Quantized",
    "RunRecord",
    "Splits",
    "Subject",
    "Task",
    "Timing",
    "Trained",
    "calibration",
    "check_data",
    "check_task",
    "compare",
    "compare_models",
    "cross_validate",
    "data_card",
    "evaluate",
    "evaluate_models",
    "explain_model",
    "export_onnx",
    "export_tflite",
    "first_run",
    "fits",
    "import_model",
    "input_spec",
    "load_checkpoint",
    "load_parent",
    "load_task",
    "logits",
    "open_subject",
    "output_outline",
    "output_spec",
    "quantize",
    "quantize_file",
    "quantize_int8",
    "quantize_tflite",
    "quantize_trained",
    "read_samples",
    "read_splits",
    "record_run",
    "retrain",
    "save_checkpoint",
    "save_record",
    "search_recipes",
    "split_new",
    "time_models",
    "train",
    "write_imported",
]


def input_spec(task: Task, splits: Splits, new: Dataset | None = None) -> InputSpec:
    """The bundle's input. The bounds of vectors and windows are those of the task file or, for other columns, those of all rows (and of `new`),
    widened on both sides by input.range_margin times their span: drift must still be let in."""
    if isinstance(task.input, ImageShape):
        return shape_of(task.input)
    low, high = _bounds(task.input, splits, new)
    bounds = {"tensor": TENSOR, "columns": list(splits.columns), "low": low, "high": high}
    if isinstance(task.input, VectorShape):
        return VectorInput(**bounds)
    shape = task.input
    by = "count" if shape.period_s is None else "time"
    return WindowInput(**bounds, length=shape.length, stride=stride_of(shape), by=by, period_s=shape.period_s, gap_s=shape.gap_s)


def output_spec(task: Task, splits: Splits, fp32: bytes, new: Dataset | None = None) -> OutputSpec:
    """The bundle's output: how the answers of this model are read shows on the validation rows. A threshold that lets the normal ones of `new` labels
    pass, too, is never lower. Raises BadInput for a model that does not run."""
    found = fit_answer(task, OUTPUT, logits(fp32, splits.validation.inputs), splits.validation)
    normal = None if new is None or not isinstance(found, Anomaly) else new.select(np.flatnonzero(new.labels == 0))
    if not normal:
        return found
    other = fit_answer(task, OUTPUT, logits(fp32, normal.inputs), normal)
    return max(found, other, key=lambda output: output.threshold)


def output_outline(task: Task, splits: Splits) -> OutputSpec:
    """What it will be like, before there is a model."""
    width = len(splits.classes) if task.kind == "classification" else 1
    return fit_answer(task, OUTPUT, np.zeros((len(splits.validation), width), np.float32), splits.validation)


def _bounds(shape: VectorShape | WindowShape, splits: Splits, new: Dataset | None) -> tuple[list[float], list[float]]:
    parts = [splits.train, splits.validation, splits.test, *([] if new is None else [new])]
    axes = (0, 1) if isinstance(shape, WindowShape) else 0
    low = np.min([part.inputs.min(axis=axes) for part in parts if len(part)], axis=0).astype(np.float64)
    high = np.max([part.inputs.max(axis=axes) for part in parts if len(part)], axis=0).astype(np.float64)
    span = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    margin = shape.range_margin * span
    found = zip(splits.columns, (low - margin).tolist(), (high + margin).tolist(), strict=True)
    bounds = [shape.ranges.get(column, (below, above)) for column, below, above in found]
    return [below for below, _ in bounds], [above for _, above in bounds]
