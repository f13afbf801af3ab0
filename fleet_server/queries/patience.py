"""Reading the database for so long and no longer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from fleet_server.errors import BadRequest
from fleet_server.tables.database import reading

_LOOK_EVERY_STEPS = 20_000
"""Of SQLite's virtual machine: a millisecond or so."""


class TooSlow(BadRequest):
    code = "too-slow"


def too_slow(max_s: float) -> TooSlow:
    return TooSlow(f"the query took longer than {max_s:g} s: ask for less", field="query", limit=max_s)


@contextmanager
def bounded_reading(engine: Engine, max_s: float) -> Iterator[Connection]:
    """`reading`; a statement that still runs after `max_s` is given up. Raises TooSlow."""
    end_s = time.monotonic() + max_s
    try:
        with reading(engine) as connection, _bounded(connection, end_s, max_s):
            yield connection
    except OperationalError as error:
        if time.monotonic() < end_s:
            raise
        raise too_slow(max_s) from error


@contextmanager
def _bounded(connection: Connection, end_s: float, max_s: float) -> Iterator[None]:
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(max_s * 1_000))}")
        yield
        return
    driver = connection.connection.driver_connection
    driver.set_progress_handler(lambda: time.monotonic() > end_s, _LOOK_EVERY_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
