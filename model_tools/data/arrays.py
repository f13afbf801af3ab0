"""NumPy archives: arrays by name, rows first; their headers are read before anything else, and pickled objects never are."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from fleet_contract import limits
from model_tools.data import labels
from model_tools.data.dataset import Dataset
from model_tools.data.table import to_numbers, to_words
from model_tools.data.times import to_times
from model_tools.data.vectors import Read, check_varied
from model_tools.errors import BadData
from model_tools.sections import NumpyFile
from model_tools.task import Task

_KINDS = "biufUSM"


def read_arrays(task: Task) -> Read:
    """Vectors or samples (rows, columns), or windows that are cut already (rows, length, columns).

    Raises BadData: no archive, an array that is not there, holds objects, has another number of rows, or does not fit into memory; values as in a table.
    """
    source = task.data
    path = task.resolve(source.file)
    with _open(path) as archive:
        inputs = _read(archive, source.inputs, path)
        target, group, time = (None if name is None else _words(archive, name, len(inputs), path) for name in _beside(task, source))
    inputs, columns = _columns(task, inputs, path)
    if len(inputs) < source.min_rows:
        raise BadData(f"{path.name} has {len(inputs)} rows, at least {source.min_rows} are wanted", field=path.name, limit=source.min_rows)
    check_varied(inputs, path.name)
    if target is not None and (absent := [row for row, word in enumerate(target, start=1) if labels.is_missing(word)]):
        raise BadData(f"row {absent[0]} has no label in {source.target!r}", field=source.target, limit=f"row {absent[0]}")
    targets, classes = labels.read_targets(task, target, len(inputs), source.target or "label")
    times = None if time is None else to_times(time, task.split.time or "")
    groups = None if group is None else tuple(group)
    rows = Dataset(inputs, targets, classes, tuple(str(row) for row in range(1, len(inputs) + 1)), columns, groups, times)
    return Read(rows, np.ones(len(inputs), bool), groups, times)


def _beside(task: Task, source: NumpyFile) -> tuple[str | None, str | None, str | None]:
    return source.target, task.split.group, task.split.time


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BadData(f"cannot read {path} as a .npz archive: {error}", field=path.name) from error


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Raises BadData."""
    members = {Path(member).stem: member for member in archive.namelist() if member.endswith(".npy")}
    if name not in members:
        raise BadData(f"{path.name} has no array {name!r}; it has {', '.join(members)}", field=name)
    try:
        with archive.open(members[name]) as file:
            shape, kind = _header(file)
            if kind.kind not in _KINDS:
                raise BadData(f"array {name!r} holds {kind}, neither numbers nor words", field=name)
            held = int(np.prod(shape, dtype=object)) * max(4, kind.itemsize // 2)
            if held > limits.MAX_DATASET_BYTES:
                raise BadData(f"array {name!r} of shape {list(shape)} does not fit into memory", field=name, limit=limits.MAX_DATASET_BYTES)
        with archive.open(members[name]) as file:
            found = npy.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # NotImplementedError is one
        raise BadData(f"array {name!r} of {path.name} is damaged: {error}", field=name) from error
    if not found.ndim:
        raise BadData(f"array {name!r} is a single value", field=name, limit=1)
    return found


def _header(file: zipfile.ZipExtFile) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    shape, _, kind = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    return shape, kind


def _words(archive: zipfile.ZipFile, name: str, rows: int, path: Path) -> list[str]:
    found = _read(archive, name, path)
    found = found.reshape(len(found), -1)[:, 0] if found.size == len(found) else found
    if found.shape != (rows,):
        raise BadData(f"array {name!r} has shape {list(found.shape)} beside {rows} rows of inputs", field=name, limit=rows)
    if found.dtype.kind in "biuf":
        return to_words(found.astype(np.float64))
    if found.dtype.kind == "S":
        found = np.char.decode(found, "utf-8", "replace")
    return [str(word).strip() for word in found]


def _columns(task: Task, found: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """float32, and the last axis' names: those of the task, or x1, x2, ..."""
    inputs = found[:, None] if found.ndim == 1 else found
    windowed = inputs.ndim == 3
    length = getattr(task.input, "length", None)
    if inputs.ndim > 3 or (windowed and inputs.shape[1] != length) or inputs.dtype.kind not in "biuf":
        wanted = f"(rows, columns){'' if length is None else f' or (rows, {length}, columns)'}"
        told = f"array {task.data.inputs!r} of {path.name} is {inputs.dtype} {list(found.shape)}; numbers {wanted} are wanted"
        raise BadData(told, field=task.data.inputs, limit=wanted)
    count = inputs.shape[-1]
    if not 1 <= count <= limits.MAX_CSV_COLUMNS:
        raise BadData(f"array {task.data.inputs!r} has {count} columns", field=task.data.inputs, limit=limits.MAX_CSV_COLUMNS)
    columns = tuple(task.input.columns) or tuple(f"x{number}" for number in range(1, count + 1))
    if len(columns) != count:
        raise BadData(f"input.columns names {len(columns)} of {count} columns", field="input.columns", limit=count)
    flat = inputs.reshape(-1, count)
    for at, name in enumerate(columns):
        values = to_numbers(flat[:, at].astype(np.float64), name, 1)
        if np.isnan(values).any():
            row = 1 + int(np.isnan(values).argmax()) // (inputs.shape[1] if windowed else 1)
            raise BadData(f"row {row}, column {name!r}: there is no value", field=name, limit=f"row {row}")
    return inputs.astype(np.float32), columns
