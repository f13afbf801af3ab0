"""Record batches as what other programs read: Arrow's IPC stream, CSV."""

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA, _NUMBER = r"^[=+\-@\t\r]", r"^[+-]?[0-9.]+([eE][+-]?[0-9]+)?$"
ARROW, CSV = "application/vnd.apache.arrow.stream", "text/csv"


def begun(reader: "pa.RecordBatchReader") -> Iterator["pa.RecordBatch"]:
    """Its batches, behind an empty one that shows the schema."""
    import pyarrow as pa

    yield pa.RecordBatch.from_pylist([], reader.schema)
    yield from reader


def arrow(batches: Iterator["pa.RecordBatch"]) -> Iterator[bytes]:
    """One IPC stream; its end mark comes last, so that a stream which broke off is seen to be torn."""
    import pyarrow as pa

    return _written(batches, lambda sink, schema: pa.ipc.new_stream(sink, schema))


def csv(batches: Iterator["pa.RecordBatch"], shares: Sequence[float] = ()) -> Iterator[bytes]:
    """A head, then a line a row; times in UTC. Quantiles of these shares have a column each, as value_q0.5. A text that a spreadsheet would take for
    a formula has a ' before it: devices choose what stands there."""
    from pyarrow import csv as arrow_csv

    return _written((_flat(batch, shares) for batch in batches), lambda sink, schema: arrow_csv.CSVWriter(sink, schema))


def _written(batches: Iterator["pa.RecordBatch"], open_writer: Callable) -> Iterator[bytes]:
    """`batches` begin with an empty one."""
    first = next(batches)
    sink = io.BytesIO()
    with open_writer(sink, first.schema) as writer:
        for batch in chain([first], batches):
            if batch.num_rows:
                writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _flat(batch: "pa.RecordBatch", shares: Sequence[float]) -> "pa.RecordBatch":
    import pyarrow as pa
    from pyarrow import compute

    columns: dict[str, pa.Array] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if shares and pa.types.is_list(field.type):
            for at, share in enumerate(shares):
                columns[f"{field.name.removesuffix('_quantiles')}_q{share:g}"] = compute.list_element(column, at)
        elif pa.types.is_nested(field.type) or pa.types.is_interval(field.type) or pa.types.is_binary(field.type):
            columns[field.name] = pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
        else:
            columns[field.name] = column
    return pa.RecordBatch.from_pydict(
        {name: _plain(column) if pa.types.is_string(column.type) else column for name, column in columns.items()}
    )


def _plain(texts: "pa.Array") -> "pa.Array":
    """No formula, for a spreadsheet; what is a number stays one."""
    from pyarrow import compute

    if not compute.any(compute.match_substring_regex(texts, _FORMULA), skip_nulls=True).as_py():
        return texts
    formula = compute.and_not(compute.match_substring_regex(texts, _FORMULA), compute.match_substring_regex(texts, _NUMBER))
    return compute.if_else(formula, compute.binary_join_element_wise("'", texts, ""), texts)
