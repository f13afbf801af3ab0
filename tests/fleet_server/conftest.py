"""The database under test: SQLite always; PostgreSQL too where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from fleet_server.tables import database
from tests.fakes.server_api import Api
from tests.fakes.server_world import World

_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A cluster of our own on a Unix socket, in a folder of its own: the path of a socket must be short, and PostgreSQL, which does not
    run as root, could not pass through pytest's folders."""
    if not _POSTGRES:
        pytest.skip("PostgreSQL is not installed (no /usr/lib/postgresql/*/bin/initdb)")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="edgefleet-pg-") as folder:
        if as_user:
            shutil.chown(folder, "postgres")
        programs, data = _POSTGRES[-1].parent, f"{folder}/data"
        _run([*as_user, str(programs / "initdb"), "-D", data, "-U", "fleet", "-A", "trust", "--no-sync", "-E", "UTF8"])
        control = [*as_user, str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log"]
        _run([*control, "-o", f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off", "start"])
        try:
            yield f"postgresql+psycopg://fleet@/postgres?host={folder}"
        finally:
            _run([*control, "-m", "immediate", "stop"])


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        made = database.connect(database.sqlite_url(tmp_path / "fleet.db"))
    else:
        made = database.connect(request.getfixturevalue("postgres_url"))
        with database.writing(made) as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    database.migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def world(tmp_path: Path, engine: Engine) -> World:
    return World(tmp_path, engine)


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    """For what does not depend on the database."""
    made = database.connect(database.sqlite_url(tmp_path / "fleet.db"))
    database.migrate(made)
    yield World(tmp_path, made)
    made.dispose()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", timeout=60)
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr or done.stdout}")


@pytest.fixture
def api(sqlite_world: World) -> Api:
    return Api(sqlite_world)
