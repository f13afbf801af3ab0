"""A CSV file's header and rows as text, every line within its bounds."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from fleet_contract import limits
from model_tools.data.table import BLOCK_ROWS, Block, Table
from model_tools.errors import BadData
from model_tools.sections import CsvFile

BLANKS = " "
"""As a delimiter: any run of blanks and tabs."""


def open_csv(source: CsvFile, path: Path, labels: Path | None) -> Table:
    """`labels`: a file of one target a line, which then stand beside the rows. Raises BadData as `open_rows` does."""
    with open_rows(path, source.delimiter, source.header) as (header, _):
        table = Table(path.name, header, lambda: _blocks(source, path))
    if labels is None:
        return table
    return table.with_column(source.target or "label", _read_lines(labels, source.target))


@contextmanager
def open_rows(
    path: Path, delimiter: str = ",", header: Sequence[str] = ()
) -> Iterator[tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]]:
    """Gives the header (UTF-8, names stripped, distinct where there are any; `header` for a file without one) and the rows with their numbers; row 1
    is the first under the header, blank lines do not count. Raises BadData: no file, no header, a repeated column, a row of another length,
    malformed quoting or encoding."""
    with _open(path) as file:
        lines = bounded(file, path)
        split = (line.split() for line in lines) if delimiter == BLANKS else csv.reader(lines, delimiter=delimiter, strict=True)
        cells = _each(split, path)
        names = check_header(header or next(cells, []), path.name)
        yield names, _numbered(cells, len(names), path)


def check_header(names: Sequence[str], file: str) -> tuple[str, ...]:
    """Stripped. Raises BadData for none, too many, or the same twice."""
    header = tuple(name.strip() for name in names)
    if not any(header):
        raise BadData(f"{file} is empty: a header is wanted", field=file)
    if len(header) > limits.MAX_CSV_COLUMNS:
        raise BadData(f"{file} has {len(header)} columns", field=file, limit=limits.MAX_CSV_COLUMNS)
    if repeated := next((name for name in header if name and header.count(name) > 1), None):
        raise BadData(f"the header of {file} names {repeated!r} twice", field=repeated)
    return header


def bounded(file: Iterator[str], path: Path) -> Iterator[str]:
    """Its lines. Raises BadData for one that is too long, or not UTF-8."""
    try:
        while line := file.readline(limits.MAX_CSV_LINE_CHARS + 1):
            if len(line) > limits.MAX_CSV_LINE_CHARS:
                raise BadData(f"{path.name} has a line over the limit", field=path.name, limit=limits.MAX_CSV_LINE_CHARS)
            yield line
    except UnicodeDecodeError as error:
        told = f"{path.name} is not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8, or convert it by iconv -f {_encoding(error)} -t UTF-8"
        raise BadData(told, field=path.name) from error


def _encoding(error: UnicodeDecodeError) -> str:
    """What the file is likely to be instead: text of a spreadsheet has UTF-16's mark, or Western letters of a byte each."""
    return "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"


@contextmanager
def _open(path: Path) -> Iterator:
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}", field=path.name) from error
    with file:
        yield file


def _blocks(source: CsvFile, path: Path) -> Iterator[Block]:
    with open_rows(path, source.delimiter, source.header) as (_, body):
        while rows := list(islice(body, BLOCK_ROWS)):
            yield Block(rows[0][0], list(zip(*(cells for _, cells in rows), strict=True)))


def _read_lines(path: Path, title: str | None) -> list[str]:
    """Without empty ones at the end; a first line that only says what they are is none of them."""
    with _open(path) as file:
        words = [line.strip() for line in bounded(file, path)]
    while words and not words[-1]:
        words.pop()
    return words[1:] if words[:1] == [title] else words


def _each(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    try:
        yield from (cells for cells in reader if cells)
    except csv.Error as error:
        raise BadData(f"{path.name}: {error}", field=path.name) from error


def _numbered(cells: Iterator[list[str]], columns: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    for row, found in enumerate(cells, start=1):
        if len(found) != columns:
            raise BadData(f"row {row} of {path.name} has {len(found)} cells under {columns} columns", field=f"row {row}", limit=columns)
        yield row, found
