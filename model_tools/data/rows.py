"""A CSV file's header and rows as text, every line within its bounds."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet_contract import limits
from model_tools.errors import BadData


@contextmanager
def open_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]]:
    """Gives the header (UTF-8, names stripped, distinct where there are any) and the rows with their numbers; row 1 is the first under the
    header, blank lines do not count. Raises BadData: no file, no header, a repeated column, a row of another length, malformed quoting or
    encoding."""
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}", field=path.name) from error
    with file:
        reader = csv.reader(_bounded(file, path), delimiter=delimiter, strict=True)
        cells = _each(reader, path)
        header = _header(next(cells, []), path)
        yield header, _numbered(cells, len(header), path)


def position(header: Sequence[str], column: str, path: Path) -> int:
    """Raises BadData when the header has no such column."""
    if column not in header:
        hint = "; is data.delimiter right?" if len(header) == 1 else ""
        raise BadData(f"{path.name} has no column {column!r}; its header has {', '.join(header)}{hint}", field=column)
    return header.index(column)


def _bounded(file: Iterator[str], path: Path) -> Iterator[str]:
    while line := file.readline(limits.MAX_CSV_LINE_CHARS + 1):
        if len(line) > limits.MAX_CSV_LINE_CHARS:
            raise BadData(f"{path.name} has a line over the limit", field=path.name, limit=limits.MAX_CSV_LINE_CHARS)
        yield line


def _each(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    try:
        yield from (cells for cells in reader if cells)
    except UnicodeDecodeError as error:
        raise BadData(f"{path.name} is not UTF-8", field=path.name) from error
    except csv.Error as error:
        raise BadData(f"{path.name}: {error}", field=path.name) from error


def _header(cells: Sequence[str], path: Path) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    if not any(header):
        raise BadData(f"{path.name} is empty: a header is wanted", field=path.name)
    if len(header) > limits.MAX_CSV_COLUMNS:
        raise BadData(f"{path.name} has {len(header)} columns", field=path.name, limit=limits.MAX_CSV_COLUMNS)
    if repeated := next((name for name in header if name and header.count(name) > 1), None):
        raise BadData(f"the header of {path.name} names {repeated!r} twice", field=repeated)
    return header


def _numbered(cells: Iterator[list[str]], columns: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    for row, found in enumerate(cells, start=1):
        if len(found) != columns:
            raise BadData(f"row {row} of {path.name} has {len(found)} cells under {columns} columns", field=f"row {row}", limit=columns)
        yield row, found
