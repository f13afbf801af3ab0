"""What a retraining job brings: inputs as devices acquired them, with the label a person gave."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fleet_contract import limits
from fleet_contract.job import LabelledSample
from model_tools.data import labels
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.pictures import read_files, shape_of
from model_tools.errors import BadData, BadInput
from model_tools.sections import ImageShape
from model_tools.task import Task


def read_samples(task: Task, splits: Splits, folder: Path, samples: Sequence[LabelledSample]) -> Dataset:
    """The samples in the order given, shaped and numbered as the task's own data. `file` is relative to `folder`.

    Raises BadData naming the sample: an unreadable file, a row or window of another length, or with a value that is no finite number, an unknown label.
    Raises BadInput for a regression.
    """
    if task.kind == "regression" and samples:
        told = "a label is a word, and what this task estimates is a number: put new rows into its data, and build a new bundle"
        raise BadInput(told, field="samples")
    for sample in samples:
        if sample.label not in splits.classes:
            known = ", ".join(splits.classes)
            raise BadData(f"sample {sample.input_id!r} is labelled {sample.label!r}, not one of {known}", field=sample.input_id)
    if isinstance(task.input, ImageShape):
        inputs = read_files(folder, [s.file for s in samples], shape_of(task.input))
    else:
        shape = splits.train.inputs.shape[1:]
        inputs = np.array([_read_array(folder, sample, shape) for sample in samples], np.float32).reshape(len(samples), *shape)
    numbered = labels.number([s.label for s in samples], splits.classes)
    return Dataset(inputs, numbered, splits.classes, tuple(f"{s.device}/{s.input_id}" for s in samples))


def _read_array(folder: Path, sample: LabelledSample, shape: tuple[int, ...]) -> np.ndarray:
    path = (folder / sample.file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadData(f"sample {sample.input_id!r} leads out of the job's folder", field=sample.input_id)
    try:
        with path.open("rb") as file:
            return _to_array(json.loads(file.read(limits.MAX_SAMPLE_BYTES)), shape)
    except OSError as error:
        raise BadData(f"cannot read sample {sample.input_id!r}: {error.strerror}", field=sample.input_id) from error
    except (ValueError, RecursionError) as error:
        wanted = " x ".join(map(str, shape))
        raise BadData(f"sample {sample.input_id!r}: {error}", field=sample.input_id, limit=wanted) from error


def _to_array(value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Raises ValueError where it is not nested like that."""
    if not shape:
        return np.float32(_number(value))
    if not isinstance(value, list) or len(value) != shape[0]:
        raise ValueError(f"not a list of {shape[0]} {'lists' if shape[1:] else 'numbers'}")
    return np.array([_to_array(one, shape[1:]) for one in value], np.float32)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    if not abs(value) <= limits.MAX_TABLE_SCALE:
        raise ValueError(f"{value!r} is not a finite number within {limits.MAX_TABLE_SCALE:g}")
    return float(value)
