"""Sensor rows from a growing CSV file."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input
from fleet_contract import limits
from fleet_contract.cells import to_number
from fleet_contract.inputs import ImageInput, VectorInput

JSON = "application/json"
BAD_ROW = "bad-row"
_KEPT_CHARS = 1_000
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class _Layout:
    """How rows are cut, how many cells they have, and where the wanted ones stand."""

    delimiter: str
    columns: int
    picked: list[int]


class CsvRows:
    """Reads the rows under the header (UTF-8; commas, semicolons, tabs or bars; one row a line) and goes on as the file grows. Row 1 is the
    first under the header; its number is id and cursor. A line counts once its newline is there. The header may hold more columns than the
    model wants, in any order."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._file: BinaryIO | None = None

    def read(self, spec: ImageInput | VectorInput, after: str | None) -> Iterator[Input | None]:
        if not isinstance(spec, VectorInput):
            raise Fatal("a csv source feeds columns, but the model wants pictures: use a camera: source", code="source")
        self.close()
        self._file = self._open()
        done = int(after) if after and after.isdecimal() else 0
        layout: _Layout | None = None
        number = 0
        for line in _lines(self._file):
            if line is None:
                yield None
            elif layout is None:
                layout = _lay_out(line, spec.columns, str(self._path))
            elif line.strip():
                number += 1
                if number > done:
                    yield self._input(number, line, layout)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise Fatal(f"the CSV file {self._path} cannot be read: {error.strerror}", code="source") from error

    def _input(self, number: int, line: bytes, layout: _Layout) -> Input:
        name, at = str(number), self._clock.now()
        try:
            cells = _cells(line, layout.delimiter)
            if len(cells) != layout.columns:
                raise ValueError(f"{len(cells)} cells under {layout.columns} columns")
            numbers = [to_number(cells[index]) for index in layout.picked]
        except ValueError:
            return Input(name, at, name, "text/csv", line[:_KEPT_CHARS], None, BAD_ROW)
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            values = np.array(numbers).astype(np.float32)
        return Input(name, at, name, JSON, msgspec.json.encode(numbers), values)


def _lay_out(line: bytes, wanted: Sequence[str], where: str) -> _Layout:
    """By the first delimiter that makes every wanted column appear; by commas, where none does. Raises Fatal as `pick` does."""
    headers = {delimiter: _header(line, delimiter, where) for delimiter in _DELIMITERS}
    fitting = (d for d, header in headers.items() if {*wanted} <= {name.strip() for name in header})
    delimiter = next(fitting, _DELIMITERS[0])
    return _Layout(delimiter, len(headers[delimiter]), pick(headers[delimiter], wanted, where))


def pick(header: Sequence[str], wanted: Sequence[str], where: str) -> list[int]:
    """The position of each wanted column. Raises Fatal naming what is missing or repeated."""
    names = [name.strip() for name in header]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Fatal(f"{where} lacks the columns {', '.join(missing)}; its header has {', '.join(names) or 'none'}", code="missing-columns")
    repeated = [name for name in wanted if names.count(name) > 1]
    if repeated:
        raise Fatal(f"{where} has the columns {', '.join(repeated)} more than once", code="repeated-columns")
    return [names.index(name) for name in wanted]


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Whole lines; None where the file ends for now. A line over the limit is cut there, so it counts as one bad row."""
    while True:
        start = file.tell()
        line = file.readline(limits.MAX_CSV_LINE_CHARS)
        if line.endswith(b"\n"):
            yield line
            continue
        if len(line) == limits.MAX_CSV_LINE_CHARS and _skip_line(file):
            yield line
            continue
        file.seek(start)
        yield None


def _skip_line(file: BinaryIO) -> bool:
    """Go behind the end of an overlong line; False when it is not there yet."""
    while rest := file.readline(limits.MAX_CSV_LINE_CHARS):
        if rest.endswith(b"\n"):
            return True
    return False


def _header(line: bytes, delimiter: str, where: str) -> list[str]:
    try:
        return _cells(line, delimiter)
    except ValueError as error:
        raise Fatal(f"{where} has no readable header: {error}", code="missing-columns") from error


def _cells(line: bytes, delimiter: str) -> list[str]:
    """Raises ValueError (not UTF-8, malformed quoting)."""
    if len(line) >= limits.MAX_CSV_LINE_CHARS:
        raise ValueError("the line is too long")
    try:
        return next(csv.reader([line.decode("utf-8-sig")], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
