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
from model_tools.data.vectors import to_number
from model_tools.errors import BadData
from model_tools.sections import ImageShape
from model_tools.task import Task


def read_samples(task: Task, splits: Splits, folder: Path, samples: Sequence[LabelledSample]) -> Dataset:
    """The samples in the order given, shaped and numbered as the task's own data. `file` is relative to `folder`.

    Raises BadData naming the sample: an unreadable file, a row of another length or with a value that is no finite number, an unknown label.
    """
    for sample in samples:
        if sample.label not in splits.classes:
            known = ", ".join(splits.classes)
            raise BadData(f"sample {sample.input_id!r} is labelled {sample.label!r}, not one of {known}", field=sample.input_id)
    if isinstance(task.input, ImageShape):
        inputs = read_files(folder, [s.file for s in samples], shape_of(task.input))
    else:
        rows = [_read_vector(folder, sample, len(splits.columns)) for sample in samples]
        inputs = np.array(rows, np.float32).reshape(len(rows), len(splits.columns))
    numbered = labels.number([s.label for s in samples], splits.classes)
    return Dataset(inputs, numbered, splits.classes, tuple(f"{s.device}/{s.input_id}" for s in samples))


def _read_vector(folder: Path, sample: LabelledSample, columns: int) -> list[float]:
    path = (folder / sample.file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadData(f"sample {sample.input_id!r} leads out of the job's folder", field=sample.input_id)
    try:
        with path.open("rb") as file:
            row = json.loads(file.read(limits.MAX_SAMPLE_BYTES))
        if not isinstance(row, list) or len(row) != columns:
            raise ValueError(f"not a list of {columns} numbers")
        return [_number(value) for value in row]
    except OSError as error:
        raise BadData(f"cannot read sample {sample.input_id!r}: {error.strerror}", field=sample.input_id) from error
    except (ValueError, RecursionError) as error:
        raise BadData(f"sample {sample.input_id!r}: {error}", field=sample.input_id, limit=columns) from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return to_number(repr(value))
