"""A table of any kind of file, block by block: a large one never stands in memory as text."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet_contract import cells, limits
from model_tools.errors import BadData

Cells = Sequence[str] | np.ndarray
"""Of one column: words, or float64 numbers, NaN where there is none."""
BLOCK_ROWS = 8_192
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """Some rows; the first is number `first` of the file, which counts from 1. An entry of `columns` for each of the table's header."""

    first: int
    columns: Sequence[Cells]

    def __len__(self) -> int:
        return len(self.columns[0])


@dataclass(frozen=True)
class Table:
    """`name` is the file's. `blocks` begins anew at each call."""

    name: str
    header: tuple[str, ...]
    blocks: Callable[[], Iterator[Block]]

    def position(self, column: str) -> int:
        """Raises BadData when the header has no such column."""
        return position(self.header, column, self.name)

    def words(self, column: str) -> list[str]:
        """Every cell of one column, stripped."""
        at = self.position(column)
        return [word for block in self.blocks() for word in to_words(block.columns[at])]

    def with_column(self, column: str, words: Sequence[str]) -> "Table":
        """Beside the others. Raises BadData where the table has it, or (when read) another number of rows."""
        if column in self.header:
            raise BadData(f"{self.name} has a column {column!r} itself: drop data.labels", field="data.labels")
        return replace(self, header=(*self.header, column), blocks=lambda: self._beside(words))

    def _beside(self, words: Sequence[str]) -> Iterator[Block]:
        rows = 0
        for block in self.blocks():
            rows = block.first - 1 + len(block)
            beside = words[block.first - 1 : rows]
            if len(beside) < len(block):
                break
            yield replace(block, columns=[*block.columns, beside])
        if rows != len(words):
            raise BadData(
                f"data.labels has {len(words)} labels for another number of rows in {self.name}", field="data.labels", limit=len(words)
            )


def position(header: Sequence[str], column: str, name: str) -> int:
    """`name` is the file's. Raises BadData when the header has no such column."""
    if column not in header:
        hint = "; is data.delimiter right?" if len(header) == 1 else ""
        raise BadData(f"{name} has no column {column!r}; its header has {', '.join(header)}{hint}", field=column)
    return header.index(column)


def to_words(column: Cells) -> list[str]:
    """Stripped; whole numbers without a point, nothing for NaN."""
    if not isinstance(column, np.ndarray):
        return [word.strip() for word in column]
    return ["" if np.isnan(value) else f"{value:.0f}" if value.is_integer() else repr(value) for value in column.tolist()]


def to_numbers(column: Cells, name: str, first: int) -> np.ndarray:
    """float64, NaN where there is none. Raises BadData naming the first cell that is no finite number, or one too large to be learnt from."""
    values = column if isinstance(column, np.ndarray) else _parse(column, name, first)
    with np.errstate(invalid="ignore"):
        large = ~(np.abs(values) <= limits.MAX_TABLE_SCALE) & ~np.isnan(values)
    if large.any():
        at = int(large.argmax())
        told = (
            f"{values[at]:g} is not within {limits.MAX_TABLE_SCALE:g}"
            if np.isfinite(values[at])
            else f"{values[at]} is not a finite number"
        )
        raise BadData(
            f"row {first + at}, column {name!r}: {told}; correct the row, or input.ignore the column",
            field=name,
            limit=limits.MAX_TABLE_SCALE,
        )
    return values


def _parse(column: Sequence[str], name: str, first: int) -> np.ndarray:
    try:
        if "_" not in "".join(column):  # Python's own 1_000 is none in a file
            return np.fromiter(map(float, column), np.float64, len(column))
    except ValueError:
        pass  # an empty cell, true and false, or no number
    return np.array([_number(cell, name, first + at) for at, cell in enumerate(column)], np.float64)


def _number(cell: str, name: str, row: int) -> float:
    if cells.is_missing(cell):
        return np.nan
    try:
        return cells.to_number(cell)
    except ValueError:
        remedy = "decimals are wanted with a point" if _DECIMAL_COMMA.fullmatch(cell.strip()) else "input.ignore leaves the column out"
        told = f"row {row}, column {name!r}: {cell[:40]!r} is not a finite number; {remedy}"
        raise BadData(told, field=name, limit=f"row {row}") from None
