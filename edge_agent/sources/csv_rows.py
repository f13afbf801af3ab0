"""Rows of a CSV file: UTF-8; commas, semicolons, tabs or bars; one row a line."""

import csv
from dataclasses import dataclass

from edge_agent.errors import Fatal
from edge_agent.sources.instants import to_instant
from edge_agent.sources.rows import Columns, Row, pick
from fleet_contract import limits
from fleet_contract.cells import to_number

_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class _Layout:
    """How rows are cut, how many cells they have, and where the wanted ones stand."""

    delimiter: str
    columns: int
    picked: list[int]
    time: int | None


class CsvFormat:
    """The header may hold more columns than are wanted, in any order. The delimiter is the first that makes every wanted column appear; the comma,
    where none does."""

    media_type = "text/csv"

    def __init__(self, wanted: Columns, where: str) -> None:
        self._wanted, self._where = wanted, where
        self._layout: _Layout | None = None

    def is_row(self, line: bytes) -> bool:
        """The first line is the header. Raises Fatal for one that does not fit."""
        if self._layout is None:
            self._layout = self._lay_out(line)
            return False
        return bool(line.strip())

    def parse(self, line: bytes) -> Row:
        """Raises ValueError."""
        layout = self._layout
        if layout is None:
            raise ValueError("a row before the header")
        cells = _cells(line, layout.delimiter)
        if len(cells) != layout.columns:
            raise ValueError(f"{len(cells)} cells under {layout.columns} columns")
        return Row([to_number(cells[index]) for index in layout.picked], None if layout.time is None else to_instant(cells[layout.time]))

    def _lay_out(self, line: bytes) -> _Layout:
        headers = {delimiter: self._header(line, delimiter) for delimiter in _DELIMITERS}
        fitting = (d for d, header in headers.items() if {*self._wanted.names} <= {name.strip() for name in header})
        delimiter = next(fitting, _DELIMITERS[0])
        header = headers[delimiter]
        picked = pick(header, self._wanted, self._where)
        time = None if self._wanted.time is None else [name.strip() for name in header].index(self._wanted.time)
        return _Layout(delimiter, len(header), picked, time)

    def _header(self, line: bytes, delimiter: str) -> list[str]:
        try:
            return _cells(line, delimiter)
        except ValueError as error:
            raise Fatal(f"{self._where} has no readable header: {error}", code="missing-columns") from error


def _cells(line: bytes, delimiter: str) -> list[str]:
    """Raises ValueError (not UTF-8, malformed quoting)."""
    if len(line) >= limits.MAX_CSV_LINE_CHARS:
        raise ValueError("the line is too long")
    try:
        return next(csv.reader([line.decode("utf-8-sig")], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
