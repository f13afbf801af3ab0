"""Tables in Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_contract import limits
from model_tools.data.rows import check_header
from model_tools.data.table import BLOCK_ROWS, Block, Cells, Table
from model_tools.errors import BadData, first_line

_INDEX = "__index_level_"
"""What pandas calls the rows' numbers: a column without a name, which is no input."""

if TYPE_CHECKING:
    import pyarrow


def open_parquet(path: Path) -> Table:
    """Raises BadData: no file, none of Parquet, a column twice, more columns or values than fit."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = check_header(["" if name.startswith(_INDEX) else name for name in file.schema_arrow.names], path.name)
            values = file.metadata.num_rows * len(header)
    except (OSError, pyarrow.ArrowException) as error:
        raise BadData(f"cannot read {path}: {first_line(error)}", field=path.name) from error
    if 4 * values > limits.MAX_DATASET_BYTES:
        raise BadData(f"{path.name} has {values} values", field=path.name, limit=limits.MAX_DATASET_BYTES)
    return Table(path.name, header, lambda: _blocks(path))


def _blocks(path: Path) -> Iterator[Block]:
    import pyarrow.parquet

    first = 1
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BLOCK_ROWS, use_threads=False):
                yield Block(first, [_cells(column, name, path) for name, column in zip(batch.schema.names, batch.columns, strict=True)])
                first += batch.num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise BadData(f"{path.name} is damaged: {first_line(error)}", field=path.name) from error


def _cells(column: "pyarrow.Array", name: str, path: Path) -> Cells:
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return _cells(column.dictionary_decode(), name, path)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        numbers = column.cast(pyarrow.uint8()) if types.is_boolean(kind) else column
        return numbers.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    if types.is_timestamp(kind):
        column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)  # Python's own times hold no nanoseconds
    if types.is_timestamp(kind) or types.is_date(kind):
        return ["" if value is None else value.isoformat() for value in column.to_pylist()]
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
        return ["" if value is None else value for value in column.to_pylist()]
    raise BadData(f"column {name!r} of {path.name} holds {kind}, neither numbers, words nor times", field=name)
