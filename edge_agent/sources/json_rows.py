"""Rows of numbers in JSON: an object by column, or a list in the model's order."""

from typing import Any

import msgspec

from edge_agent.sources.instants import to_instant
from edge_agent.sources.rows import JSON, Columns, Row
from fleet_contract import limits


class JsonFormat:
    """A line is a row."""

    media_type = JSON

    def __init__(self, wanted: Columns, where: str) -> None:
        self._wanted = wanted

    def is_row(self, line: bytes) -> bool:
        return bool(line.strip())

    def parse(self, line: bytes) -> Row:
        """Raises ValueError."""
        if len(line) >= limits.MAX_CSV_LINE_CHARS:
            raise ValueError("the line is too long")
        return _to_row(_decode(line), self._wanted)


def parse_rows(payload: bytes, wanted: Columns) -> list[Row]:
    """One row, or a list of rows. Raises ValueError naming the row that is none."""
    found = _decode(payload)
    is_many = isinstance(found, list) and any(isinstance(item, list | dict) for item in found)
    if not is_many:
        return [_to_row(found, wanted)]
    if len(found) > limits.MAX_PUSHED_ROWS:
        raise ValueError(f"{len(found)} rows, at most {limits.MAX_PUSHED_ROWS}")
    rows = []
    for number, item in enumerate(found, 1):
        try:
            rows.append(_to_row(item, wanted))
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
    return rows


def _decode(payload: bytes) -> Any:
    if len(payload) > limits.MAX_HTTP_JSON_BYTES:
        raise ValueError(f"{len(payload)} bytes of JSON, at most {limits.MAX_HTTP_JSON_BYTES}")
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"no JSON: {error}") from error


def _to_row(found: Any, wanted: Columns) -> Row:
    """Whatever else an object holds is let go. A list cannot say when."""
    if isinstance(found, dict):
        missing = [name for name in (*wanted.names, wanted.time) if name is not None and name not in found]
        if missing:
            raise ValueError(f"the row lacks {', '.join(missing)}")
        at = None if wanted.time is None else to_instant(found[wanted.time])
        return Row([_to_number(found[name], name) for name in wanted.names], at)
    if not isinstance(found, list):
        raise ValueError("a row is an object or a list")
    if wanted.time is not None:
        raise ValueError(f"a list does not say {wanted.time}: give an object")
    if len(found) != len(wanted.names):
        raise ValueError(f"{len(found)} values for {len(wanted.names)} columns")
    return Row([_to_number(item, name) for item, name in zip(found, wanted.names, strict=True)])


def _to_number(value: Any, name: str) -> float:
    if not isinstance(value, int | float):
        raise ValueError(f"{name} is no number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is too large") from error
