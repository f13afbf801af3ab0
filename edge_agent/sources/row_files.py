"""Sensor rows from a growing file."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input
from edge_agent.sources import rows, tail
from edge_agent.sources.rows import Columns, Row
from fleet_contract.inputs import InputSpec

log = logging.getLogger(__name__)


class Format(Protocol):
    """How a line is read."""

    media_type: str

    def is_row(self, line: bytes) -> bool:
        """Asked of every line, from the first on, so that a header is seen. Raises Fatal for a file that can never fit."""

    def parse(self, line: bytes) -> Row:
        """Raises ValueError for a bad row."""


class RowFile:
    """Reads line by line and goes on as the file grows. Rows count from 1; a row's number is id and cursor. A line counts once its newline is there, an
    empty one never."""

    def __init__(self, path: Path, clock: Clock, make_format: Callable[[Columns, str], Format], time: str | None = None) -> None:
        """`time`: the column that says when; without one a row was taken when it is read."""
        self._path, self._clock = path, clock
        self._make_format, self._time = make_format, time
        self._file: BinaryIO | None = None

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        layout = self._make_format(rows.columns_of(spec, self._time, f"the file {self._path}"), str(self._path))
        self.close()
        self._file = self._open()
        done = int(after) if after and after.isdecimal() else 0
        number, is_warned = 0, False
        for line in tail.lines(self._file):
            if line is None:
                if number < done and not is_warned:
                    log.warning(
                        "%s has %d rows, %d were read before: was it replaced? The next is row %d", self._path, number, done, done + 1
                    )
                    is_warned = True
                yield None
            elif layout.is_row(line):
                number += 1
                if number > done:
                    yield self._input(number, line, layout)

    def losses(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise Fatal(f"the file {self._path} cannot be read: {error.strerror}", code="source") from error

    def _input(self, number: int, line: bytes, layout: Format) -> Input:
        name, now = str(number), self._clock.now()
        try:
            return rows.to_input(layout.parse(line), name, now, name)
        except ValueError:
            return rows.to_refusal(line, layout.media_type, name, now, name)
