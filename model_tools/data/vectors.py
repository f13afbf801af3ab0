"""Sensor rows from a CSV file."""

import math
from collections.abc import Sequence

import numpy as np

from fleet_contract import cells
from model_tools.data import labels, rows
from model_tools.data.dataset import Dataset
from model_tools.data.times import to_times
from model_tools.errors import BadData
from model_tools.sections import CsvFile, VectorShape
from model_tools.task import Task

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def read_vectors(task: Task) -> Dataset:
    """Every row of the task's CSV file, in raw units.

    Raises BadData: a missing or repeated column, a cell that is no finite number (row and column named), a missing label, one class only,
    too few rows.
    """
    source, path = _csv_of(task), task.resolve(_csv_of(task).file)
    numbers, words, ids, groups, times = [], [], [], [], []
    with rows.open_rows(path, source.delimiter) as (header, body):
        columns = _columns(task, header)
        picked = [rows.position(header, column, path) for column in columns]
        target = rows.position(header, source.target, path)
        group, time = (None if c is None else rows.position(header, c, path) for c in (task.split.group, task.split.time))
        for row, found in body:
            if source.missing == "skip" and any(cells.is_missing(found[at]) for at in picked):
                continue
            numbers.append(_numbers(found, picked, columns, row))
            words.append(_label(found[target], source.target, row))
            ids.append(str(row))
            if group is not None:
                groups.append(found[group].strip())
            if time is not None:
                times.append(found[time].strip())
    if len(words) < source.min_rows:
        raise BadData(f"{path.name} has {len(words)} rows, at least {source.min_rows} are wanted", field=path.name, limit=source.min_rows)
    targets, classes = labels.read_targets(task, words, source.target)
    return Dataset(
        np.array(numbers, np.float32),
        targets,
        classes,
        tuple(ids),
        columns,
        tuple(groups) or None,
        to_times(times, task.split.time or "") if times else None,
    )


def to_number(text: str) -> float:
    """A finite float32's worth. Raises ValueError."""
    value = cells.to_number(text)
    if not math.isfinite(value) or abs(value) > _FLOAT32_MAX:
        raise ValueError(f"{text!r} is not a finite number")
    return value


def _csv_of(task: Task) -> CsvFile:
    if not isinstance(task.data, CsvFile) or not isinstance(task.input, VectorShape):
        raise BadData("the task does not read vectors", field="data.reader")
    return task.data


def _columns(task: Task, header: Sequence[str]) -> tuple[str, ...]:
    """Those that the task names, or all that are not used otherwise and have a name: many tools write the row's number without one."""
    source = _csv_of(task)
    if source.target in task.input.columns:
        raise BadData(f"{source.target!r} is the target and cannot be an input column", field="input.columns")
    if absent := [name for name in task.input.ignore if name not in header]:
        raise BadData(f"input.ignore names {absent[0]!r}, which the header does not", field="input.ignore")
    used = {source.target, task.split.group, task.split.time, *task.input.ignore}
    columns = tuple(task.input.columns) or tuple(name for name in header if name and name not in used)
    if not columns:
        raise BadData("the file has no input column", field="input.columns", limit=1)
    if unknown := [name for name in task.input.ranges if name not in columns]:
        raise BadData(f"input.ranges names {unknown[0]!r}, which is no input column", field=f"input.ranges.{unknown[0]}")
    return columns


def _numbers(found: Sequence[str], picked: Sequence[int], columns: Sequence[str], row: int) -> list[float]:
    try:
        return [to_number(found[at]) for at in picked]
    except ValueError:
        at, column = next((at, c) for at, c in zip(picked, columns, strict=True) if not _is_number(found[at]))
        raise BadData(f"row {row}, column {column!r}: {_complaint(found[at])}", field=column, limit=f"row {row}") from None


def _complaint(cell: str) -> str:
    if cells.is_missing(cell):
        return 'there is no value; data.missing = "skip" leaves such rows out, input.ignore the column'
    return f"{cell[:40]!r} is not a finite number; input.ignore leaves the column out"


def _is_number(text: str) -> bool:
    try:
        to_number(text)
    except ValueError:
        return False
    return True


def _label(cell: str, target: str, row: int) -> str:
    word = cell.strip()
    if labels.is_missing(word):
        raise BadData(f"row {row} has no label in {target!r}", field=target, limit=f"row {row}")
    return word
