"""Rows of numbers from a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fleet_contract import limits
from model_tools.data import labels
from model_tools.data.dataset import Dataset
from model_tools.data.roles import Roles, assign_roles
from model_tools.data.table import Block, Table, to_numbers, to_words
from model_tools.data.times import to_times
from model_tools.errors import BadData
from model_tools.task import Task


@dataclass(frozen=True)
class Read:
    """`rows` are those with all their inputs, in the file's order; `kept` says which of the file's rows they are. `groups` and `times` are those of
    all of the file's rows."""

    rows: Dataset
    kept: np.ndarray
    groups: tuple[str, ...] | None
    times: np.ndarray | None


@dataclass
class _Gathered:
    numbers: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)


def read_vectors(task: Task, table: Table) -> Dataset:
    """Every row of the table, in raw units; without those that miss an input, where the task says so.

    Raises BadData: a missing or repeated column, a cell that is no finite number (row and column named), a missing label, one class only,
    nothing but constants, too few rows, too many.
    """
    return read_rows(task, table).rows


def read_rows(task: Task, table: Table) -> Read:
    """As read_vectors, and what the rows that were left out leave behind."""
    roles = assign_roles(task, table)
    gathered = _gather(task, table, roles)
    kept = np.concatenate(gathered.kept) if gathered.kept else np.zeros(0, bool)
    count = int(kept.sum())
    if count < task.data.min_rows:
        raise BadData(
            f"{table.name} has {count} rows, at least {task.data.min_rows} are wanted", field=table.name, limit=task.data.min_rows
        )
    inputs = np.concatenate(gathered.numbers)
    check_varied(inputs, table.name)
    targets, classes = labels.read_targets(task, gathered.words if roles.target else None, count, roles.target or "label")
    groups = tuple(gathered.groups) or None
    times = to_times(gathered.times, roles.time or "") if gathered.times else None
    at = np.flatnonzero(kept)
    rows = Dataset(
        inputs,
        targets,
        classes,
        tuple(str(row + 1) for row in at),
        roles.inputs,
        None if groups is None else tuple(groups[row] for row in at),
        None if times is None else times[at],
        roles.notes,
    )
    return Read(rows, kept, groups, times)


def check_varied(inputs: np.ndarray, name: str) -> None:
    """Raises BadData for rows that are all the same."""
    if len(inputs) and (inputs == inputs[0]).all():
        raise BadData(f"every input of {name} is constant: there is nothing to learn from", field=name)


def _gather(task: Task, table: Table, roles: Roles) -> _Gathered:
    picked = [table.position(column) for column in roles.inputs]
    target, group, time = (None if c is None else table.position(c) for c in (roles.target, roles.group, roles.time))
    gathered, held = _Gathered(), 0
    for block in table.blocks():
        numbers, kept = _inputs(block, picked, roles.inputs, getattr(task.data, "missing", "refuse") == "skip")
        gathered.numbers.append(numbers[kept])
        gathered.kept.append(kept)
        held += gathered.numbers[-1].nbytes
        if held > limits.MAX_DATASET_BYTES:
            raise BadData(f"{table.name} has more values than fit into memory", field=table.name, limit=limits.MAX_DATASET_BYTES)
        if target is not None:
            words = to_words(block.columns[target])
            gathered.words += [_label(words[row], table.header[target], block.first + row) for row in np.flatnonzero(kept)]
        if group is not None:
            gathered.groups += to_words(block.columns[group])
        if time is not None:
            gathered.times += to_words(block.columns[time])
    return gathered


def _inputs(block: Block, picked: Sequence[int], names: Sequence[str], skip: bool) -> tuple[np.ndarray, np.ndarray]:
    """float32 (rows, columns), and which rows have them all."""
    columns = [to_numbers(block.columns[at], name, block.first) for at, name in zip(picked, names, strict=True)]
    numbers = np.stack(columns, axis=1)
    absent = np.isnan(numbers)
    if absent.any() and not skip:
        row, column = np.argwhere(absent)[0]
        told = 'there is no value; data.missing = "skip" leaves such rows out, input.ignore the column'
        raise BadData(f"row {block.first + row}, column {names[column]!r}: {told}", field=names[column], limit=f"row {block.first + row}")
    return numbers.astype(np.float32), ~absent.any(axis=1)


def _label(word: str, target: str, row: int) -> str:
    if labels.is_missing(word):
        raise BadData(f"row {row} has no label in {target!r}", field=target, limit=f"row {row}")
    if len(word) > limits.MAX_LABEL_CHARS:
        raise BadData(f"row {row}: label {word[:40]!r} is too long", field=target, limit=limits.MAX_LABEL_CHARS)
    return word
