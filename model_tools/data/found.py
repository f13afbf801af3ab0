"""What a reader found: all labelled rows, before they are split."""

from dataclasses import dataclass

from model_tools.data.dataset import Dataset


@dataclass(frozen=True)
class Found:
    """`groups` and `times` are the cells of the columns that the task splits by, a cell a row, or None. `columns` names the axis of vectors."""

    rows: Dataset
    columns: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    times: tuple[str, ...] | None = None
