"""Answers for the screen and for programs."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_CELL_CHARS = 64
_MORE = "…"


def table(reader: "pa.RecordBatchReader", max_rows: int) -> Iterator[str]:
    """Lines of a table of at most `max_rows` rows, whose last line says when there are more."""
    rows: list[Sequence[str]] = []
    for batch in reader:
        rows += [[_cell(value) for value in row.values()] for row in batch.to_pylist()]
        if len(rows) > max_rows:
            break
    head = reader.schema.names
    widths = [max(map(len, column)) for column in zip(head, *rows[:max_rows], strict=True)]
    for row in (head, ["-" * width for width in widths], *rows[:max_rows]):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if len(rows) > max_rows:
        yield f"({max_rows} rows are shown of more; --rows asks for them, --csv and --json give all)"


def json_object(reader: "pa.RecordBatchReader") -> Iterator[str]:
    """One object, a row a line: {"columns": [...], "rows": [{...}, ...]}."""
    yield f'{{"columns": {json.dumps(reader.schema.names)}, "rows": ['
    before = None
    for batch in reader:
        for row in batch.to_pylist():
            if before is not None:
                yield before + ","
            before = json.dumps(row, default=_plain)
    if before is not None:
        yield before
    yield "]}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else str(_plain(value))
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= _MAX_CELL_CHARS else text[: _MAX_CELL_CHARS - 1] + _MORE


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)  # DuckDB's sums of whole numbers
    return value.hex() if isinstance(value, bytes) else str(value)
