"""Thousands of rows in one statement, on both databases: as arrays for PostgreSQL, as one prepared statement for SQLite."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Select, String, any_, cast, func, select
from sqlalchemy.dialects import postgresql

_SQLITE = "sqlite"


def rows_of(connection: Connection, wanted: Select, column: Any, values: Collection[str]) -> Sequence[Row]:
    """The rows whose `column`, a text, is one of any number of values."""
    if connection.dialect.name == _SQLITE:
        among = column.in_(select(func.json_each(json.dumps(sorted(values))).table_valued("value").c.value))
    else:
        among = column == any_(cast(sorted(values), ARRAY(String)))
    return connection.execute(wanted.where(among)).all()


def add(connection: Connection, table: Any, values: Mapping[str, Sequence]) -> None:
    """Insert rows given as for `upsert`. Raises IntegrityError, and inserts none, where one has a key that is there already."""
    _insert(connection, table, values, "")


def upsert(
    connection: Connection, table: Any, values: Mapping[str, Sequence], *, keys: Sequence[str], update: Mapping[str, str] | None = None
) -> None:
    """Insert rows given as columns, of types that the driver takes as they are (JSON as text, no times). A row whose `keys` are there already has
    the SQL of `update` applied, in which `excluded` is the new one; without `update` it stays."""
    quote = connection.dialect.identifier_preparer.quote
    assignments = ", ".join(f"{quote(name)} = {sql}" for name, sql in (update or {}).items())
    conflict = f"ON CONFLICT ({', '.join(map(quote, keys))}) DO {'UPDATE SET ' + assignments if update else 'NOTHING'}"
    _insert(connection, table, values, conflict)


def change(connection: Connection, table: Any, values: Mapping[str, Sequence], *, keys: Sequence[str]) -> None:
    """Update the rows that have these `keys`, each with its own values, given as for `upsert`; `instants` makes times of them."""
    if not values[keys[0]]:
        return
    quote = connection.dialect.identifier_preparer.quote
    name, others = quote(table.__tablename__), [column for column in values if column not in keys]
    if connection.dialect.name == _SQLITE:
        assignments = ", ".join(f"{quote(column)} = ?" for column in others)
        same = " AND ".join(f"{quote(key)} = ?" for key in keys)
        rows = list(zip(*(values[column] for column in (*others, *keys)), strict=True))
        connection.exec_driver_sql(f"UPDATE {name} SET {assignments} WHERE {same}", rows)
        return
    assignments = ", ".join(f"{quote(column)} = new.{quote(column)}" for column in others)
    same = " AND ".join(f"{name}.{quote(key)} = new.{quote(key)}" for key in keys)
    columns, arrays = ", ".join(map(quote, values)), _arrays(table, tuple(values))
    statement = f"UPDATE {name} SET {assignments} FROM unnest({arrays}) AS new ({columns}) WHERE {same}"
    connection.exec_driver_sql(statement, tuple(list(column) for column in values.values()))


def instants(connection: Connection, times: Sequence[datetime | None]) -> list[Any]:
    """Times as `upsert` and `change` take them."""
    if connection.dialect.name != _SQLITE:
        return [*times]
    return [None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") for at in times]


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


def _insert(connection: Connection, table: Any, values: Mapping[str, Sequence], conflict: str) -> None:
    rows = list(zip(*values.values(), strict=True))
    if not rows:
        return
    quote = connection.dialect.identifier_preparer.quote
    into = f"INSERT INTO {quote(table.__tablename__)} ({', '.join(map(quote, values))})"
    if connection.dialect.name == _SQLITE:
        marks = ", ".join("?" for _ in values)
        connection.exec_driver_sql(f"{into} VALUES ({marks}) {conflict}", rows)
        return
    arrays = _arrays(table, tuple(values))
    connection.exec_driver_sql(f"{into} SELECT * FROM unnest({arrays}) {conflict}", tuple(list(column) for column in values.values()))


@cache
def _arrays(table: Any, names: tuple[str, ...]) -> str:
    """A parameter of the column's type, as PostgreSQL has it, for each."""
    types = [table.__table__.c[name].type.compile(dialect=postgresql.dialect()) for name in names]
    return ", ".join(f"%b::{kind}[]" for kind in types)  # binary: as text, each bytea is escaped at 30 us
