"""Thousands of rows in one statement, on both databases: as arrays for PostgreSQL, as one prepared statement for SQLite."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Select, String, any_, cast, func, select

_SQLITE = "sqlite"


def rows_of(connection: Connection, wanted: Select, column: Any, values: Collection[str]) -> Sequence[Row]:
    """The rows whose `column`, a text, is one of any number of values."""
    if connection.dialect.name == _SQLITE:
        among = column.in_(select(func.json_each(json.dumps(sorted(values))).table_valued("value").c.value))
    else:
        among = column == any_(cast(sorted(values), ARRAY(String)))
    return connection.execute(wanted.where(among)).all()


def upsert(
    connection: Connection, table: Any, values: Mapping[str, Sequence], *, keys: Sequence[str], update: Mapping[str, str] | None = None
) -> None:
    """Insert rows given as columns, of types that the driver takes as they are (JSON as text, no times). A row whose `keys` are there already has
    the SQL of `update` applied, in which `excluded` is the new one; without `update` it stays."""
    if not values[keys[0]]:
        return
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(map(quote, values))
    assignments = ", ".join(f"{quote(name)} = {sql}" for name, sql in (update or {}).items())
    conflict = f"ON CONFLICT ({', '.join(map(quote, keys))}) DO {'UPDATE SET ' + assignments if update else 'NOTHING'}"
    into = f"INSERT INTO {quote(table.__tablename__)} ({columns})"
    if connection.dialect.name == _SQLITE:
        marks = ", ".join("?" for _ in values)
        connection.exec_driver_sql(f"{into} VALUES ({marks}) {conflict}", list(zip(*values.values(), strict=True)))
        return
    types = [table.__table__.c[name].type.compile(dialect=connection.dialect) for name in values]
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    connection.exec_driver_sql(f"{into} SELECT * FROM unnest({arrays}) {conflict}", tuple(list(column) for column in values.values()))


def plus(table: Any, *names: str) -> dict[str, str]:
    """Updates that add."""
    return {name: f"{table.__tablename__}.{name} + excluded.{name}" for name in names}


def highest(table: Any, name: str) -> dict[str, str]:
    """An update that keeps the larger."""
    kept = f"{table.__tablename__}.{name}"
    return {name: f"CASE WHEN excluded.{name} > {kept} THEN excluded.{name} ELSE {kept} END"}


def lowest(table: Any, name: str) -> dict[str, str]:
    kept = f"{table.__tablename__}.{name}"
    return {name: f"CASE WHEN excluded.{name} < {kept} THEN excluded.{name} ELSE {kept} END"}
