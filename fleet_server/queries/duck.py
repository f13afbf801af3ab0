"""DuckDB, held to a time, an amount of memory, threads, and the files that it is given: nothing else of this machine or the network."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_server.errors import BadRequest, TooLarge, Unavailable
from fleet_server.queries.bounds import Bounds
from fleet_server.queries.patience import too_slow

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_AGAIN_S = 0.1
_INTERRUPTED = "INTERRUPT Error"
_NO_ROWS = """SELECT NULL::TIMESTAMPTZ AS recorded_at, NULL::VARCHAR AS device, NULL::VARCHAR AS epoch, NULL::BIGINT AS seq, NULL::VARCHAR AS task,
NULL::VARCHAR AS bundle, NULL::VARCHAR AS input_id, NULL::VARCHAR AS label, NULL::DOUBLE AS value, NULL::BIGINT AS latency_us,
NULL::BOOLEAN AS abstained, NULL::VARCHAR AS detail, NULL::TIMESTAMPTZ AS received_at, NULL::BIGINT AS mono_us, NULL::VARCHAR AS boot,
NULL::VARCHAR AS clock, NULL::VARCHAR AS day WHERE false"""


class FileGone(Unavailable):
    """A file was taken away between listing and reading: list again."""


@contextmanager
def opened(files: Sequence[Path], bounds: Bounds, spill: Path, prepare: Callable[["DuckDBPyConnection"], None] | None = None) -> Iterator:
    """A database in memory with the view `results` (its `at` called recorded_at) over the lake's `files`, and what `prepare` adds; from then on
    nothing but these can be read, and no setting changed. Raises BadRequest for what DuckDB refuses, TooSlow, TooLarge, FileGone."""
    import duckdb  # 60 MB that only those pay who ask

    settings = {"threads": bounds.threads, "memory_limit": f"{bounds.max_memory_bytes // 1024}KiB", "temp_directory": str(spill)}
    settings |= {"max_temp_directory_size": f"{bounds.max_spill_bytes // 1024}KiB", "autoload_known_extensions": False}
    connection = duckdb.connect(":memory:", config={**settings, "autoinstall_known_extensions": False, "allow_community_extensions": False})
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(connection, bounds.max_s, done), name="query-deadline", daemon=True)
    try:
        with translated(bounds):
            connection.execute("SET TimeZone = 'UTC'")
            if prepare:
                prepare(connection)
            _lock(connection, files)
            watch.start()
            yield connection
    finally:
        done.set()
        if watch.is_alive():
            watch.join()
        connection.close()


@contextmanager
def translated(bounds: Bounds) -> Iterator[None]:
    """DuckDB's errors as ours."""
    import duckdb

    try:
        yield
    except duckdb.InterruptException as error:
        raise too_slow(bounds.max_s) from error
    except duckdb.OutOfMemoryException as error:
        raise TooLarge(
            f"the query needs more than {bounds.max_memory_bytes} bytes: ask for less", field="query", limit=bounds.max_memory_bytes
        ) from error
    except duckdb.IOException as error:
        raise FileGone(f"a file of the lake cannot be read: {error}") from error
    except duckdb.Error as error:
        raise BadRequest(str(error), field="query") from error
    except OSError as error:  # as Arrow hands on what stopped a stream
        if _INTERRUPTED not in str(error):
            raise
        raise too_slow(bounds.max_s) from error


def _watch(connection: "DuckDBPyConnection", max_s: float, done: threading.Event) -> None:
    """An interrupt between two steps of a query is forgotten: so it comes again."""
    wait_s = max_s
    while not done.wait(wait_s):
        connection.interrupt()
        wait_s = _AGAIN_S


def _lock(connection: "DuckDBPyConnection", files: Sequence[Path]) -> None:
    paths = [str(path) for path in files]
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    rows = (
        f'SELECT * RENAME ("at" AS recorded_at) FROM read_parquet([{quoted}], hive_partitioning = true, hive_types_autocast = false)'
        if paths
        else _NO_ROWS
    )
    connection.execute("SET allowed_paths = [" + quoted + "]")
    connection.execute(f"CREATE VIEW results AS {rows}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
