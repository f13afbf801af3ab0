"""What each column of a table is: input, target, group, time, or nothing to the task."""

from dataclasses import dataclass

from model_tools.data.table import Table, to_words
from model_tools.data.times import is_clock, may_be_time
from model_tools.errors import BadData
from model_tools.sections import ImageShape
from model_tools.task import Task

_LOOKED_AT_ROWS = 100


@dataclass(frozen=True)
class Roles:
    """`notes` say what nobody had asked for."""

    inputs: tuple[str, ...]
    target: str | None
    group: str | None
    time: str | None
    notes: tuple[str, ...] = ()


def assign_roles(task: Task, table: Table) -> Roles:
    """As the task says. A time that it does not name is found by what stands there, and is no input. Raises BadData: a column that is not there,
    the target among the inputs, no input at all."""
    target, group, time = getattr(task.data, "target", None), task.split.group, task.split.time
    named, ignored = _asked(task)
    for column in (target, group, time, *named):
        if column is not None:
            table.position(column)
    if target in named:
        raise BadData(f"{target!r} is the target and cannot be an input column", field="input.columns")
    if absent := [name for name in ignored if name not in table.header]:
        raise BadData(f"input.ignore names {absent[0]!r}, which the header does not", field="input.ignore")
    notes: tuple[str, ...] = ()
    if time is None and (found := _find_time(table, {target, group, *named}, group)):
        time = found
        notes = (f"column {found!r} is taken for the rows' time, and is no input: see split.time, input.columns",)
    used = {target, group, time, *ignored}
    inputs = named or tuple(name for name in table.header if name and name not in used)
    if not inputs:
        raise BadData("the file has no input column", field="input.columns", limit=1)
    _check_ranges(task, inputs)
    return Roles(inputs, target, group, time, notes)


def _asked(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(task.input, ImageShape):
        raise BadData("the task reads pictures, and this is a table", field="data.reader")
    return tuple(task.input.columns), tuple(task.input.ignore)


def _find_time(table: Table, used: set[str | None], group: str | None) -> str | None:
    first = next(table.blocks(), None)
    if first is None:
        return None
    for column, cells in zip(table.header, first.columns, strict=True):
        if column in used or not may_be_time(column, to_words(cells[:_LOOKED_AT_ROWS])):
            continue
        if is_clock(table.words(column), None if group is None else table.words(group)):
            return column
    return None


def _check_ranges(task: Task, inputs: tuple[str, ...]) -> None:
    unknown = [name for name in getattr(task.input, "ranges", {}) if name not in inputs]
    if unknown:
        raise BadData(f"input.ranges names {unknown[0]!r}, which is no input column", field=f"input.ranges.{unknown[0]}")
