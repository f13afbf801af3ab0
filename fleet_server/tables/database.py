"""Opening the database, its two kinds of transaction, and its migrations."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Row, Select, create_engine, event, select
from sqlalchemy.dialects import postgresql, sqlite

BUSY_TIMEOUT_MS = 10_000
_WRITES = "edgefleet_writes"
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def connect(url: str) -> Engine:
    """An engine for any SQLAlchemy URL, whose errors do not tell what was to be written; SQLite gets WAL, synchronous=FULL, foreign keys and a busy
    timeout."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"), hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view; writes nothing."""
    # SQLite's transactions are snapshots by themselves.
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def read_page(engine: Engine, wanted: Select, key: Any, *, after: int, limit: int, equal: Mapping[Any, Any]) -> list[Row]:
    """At most `limit` rows whose column `key` is above `after`, in its order. A column of `equal` with the value None is not asked for."""
    conditions = [column == value for column, value in equal.items() if value is not None]
    with reading(engine) as connection:
        return list(connection.execute(wanted.where(key > after, *conditions).order_by(key).limit(limit)))


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """All or nothing. On SQLite the write lock is taken at once: a transaction that read first could not be upgraded, only refused."""
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


def insert_new(connection: Connection, table: Any) -> Any:
    """An INSERT that leaves a row with the same key alone."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()


def upsert(connection: Connection, table: Any, keys: list[str], update: dict[str, Any]) -> Any:
    """An INSERT that applies `update` to the row with the same key; in it, lambdas get the row that was refused."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table)
    values = {name: make(statement.excluded) for name, make in update.items()}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version, in one transaction."""
    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def ping(engine: Engine) -> None:
    """Raises OperationalError when the database does not answer."""
    with reading(engine) as connection:
        connection.execute(select(1))


def is_current(engine: Engine) -> bool:
    """Whether `migrate` would have nothing to do."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision() == ScriptDirectory.from_config(config).get_current_head()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun by _begin_sqlite: the driver's own begin comes too late, after the first SELECT.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
