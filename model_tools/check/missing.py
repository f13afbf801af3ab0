"""Rows of a table that miss an input, counted before they are refused or left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from model_tools.check.finding import Finding, by_share
from model_tools.data.reading import open_table
from model_tools.data.roles import assign_roles
from model_tools.data.table import to_numbers
from model_tools.sections import CsvFile, JsonLinesFile, ParquetFile
from model_tools.task import Task

_MANY = 0.05
_MOST_NAMED = 8


@dataclass(frozen=True)
class Missing:
    """Of so many `rows`, those that miss any input, and the cells without a value of each column that has some."""

    rows: int
    incomplete: int
    cells: dict[str, int]


def count_missing(task: Task) -> Missing:
    """None are missing from folders and arrays. Raises BadData for a cell that is neither empty nor a number."""
    if not isinstance(task.data, CsvFile | ParquetFile | JsonLinesFile):
        return Missing(0, 0, {})
    table = open_table(task)
    columns = assign_roles(task, table).inputs
    rows, incomplete, counts = 0, 0, np.zeros(len(columns), np.int64)
    for block in table.blocks():
        absent = np.stack([np.isnan(to_numbers(block.columns[table.position(c)], c, block.first)) for c in columns])
        rows += len(block)
        incomplete += int(absent.any(axis=0).sum())
        counts += absent.sum(axis=1)
    return Missing(rows, incomplete, {name: int(count) for name, count in zip(columns, counts, strict=True) if count})


def skipping(task: Task) -> Task:
    """The same task, which leaves such rows out."""
    if not isinstance(task.data, CsvFile | ParquetFile | JsonLinesFile):
        return task
    return replace(task, data=msgspec.structs.replace(task.data, missing="skip"))


def find_missing(found: Missing, refused: bool) -> list[Finding]:
    """At most one finding; `refused`: the task does not skip such rows."""
    if not found.incomplete:
        return []
    share = found.incomplete / found.rows
    worst: Sequence[str] = sorted(found.cells, key=lambda name: -found.cells[name])
    named = ", ".join(f"{name} {found.cells[name]}" for name in worst[:_MOST_NAMED])
    told = f"{found.incomplete} of {found.rows} rows have no value in some column ({named})"
    severity = "error" if refused else by_share(share, 2.0, _MANY)
    way = '; build refuses them: data.missing = "skip" leaves such rows out, input.ignore the column' if refused else " and are left out"
    return [Finding("missing-values", severity, told + way, worst[0], share, tuple(worst[:_MOST_NAMED]))]
