"""The lines of a text file that may still grow."""

from collections.abc import Iterator
from typing import BinaryIO

from fleet_contract import limits


def lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Whole lines; None where the file ends for now. A line over the limit is cut there, so that it counts as one bad row."""
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
