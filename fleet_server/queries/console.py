"""SQL that a person wrote, over views that can only be read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from fleet_contract import limits
from fleet_server.errors import BadRequest
from fleet_server.queries import duck, files, views
from fleet_server.queries.bounds import Bounds
from fleet_server.queries.question import Question

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 2_000


@dataclass(frozen=True)
class Console:
    """`folder` is the lake's, `spill` one for what does not fit in memory; `tell` hears of tables that are not seen whole."""

    engine: Engine
    folder: Path
    spill: Path
    bounds: Bounds
    tell: Callable[[str], None]
    max_table_rows: int = limits.MAX_QUERY_TABLE_ROWS

    @contextmanager
    def answered(self, sql: str, *, explain: bool = False) -> Iterator["pa.RecordBatchReader"]:
        """The rows of one SELECT, or how they would be found. Raises BadRequest for anything else, and as queries.duck.opened does."""
        with duck.translated(self.bounds):
            check(sql)
        listed = [self.folder / file.path for file in files.needed(self.engine, Question())]
        with duck.opened(listed, self.bounds, self.spill, lambda connection: self._show(connection, sql)) as connection:
            yield connection.sql(f"EXPLAIN {sql}" if explain else sql).to_arrow_reader(_BATCH_ROWS)

    def _show(self, connection, sql: str) -> None:
        for name, table in views.tables(self.engine, views.named(sql), self.max_table_rows, self.tell):
            connection.register(name, table)


def check(sql: str) -> None:
    """Raises BadRequest for what is not one SELECT, duckdb.Error for what is no SQL."""
    import duckdb

    if len(sql) > limits.MAX_QUERY_CHARS:
        raise BadRequest(f"SQL of {len(sql)} characters", field="sql", limit=limits.MAX_QUERY_CHARS)
    kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        raise BadRequest("one SELECT, and nothing else", field="sql", limit=1)
