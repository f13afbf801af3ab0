"""The database under test: SQLite always; PostgreSQL too where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

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


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """The name of a migrated database that others are copied from: migrating each anew takes longer than most tests."""
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE template_fleet"))
    server.dispose()
    _migrated(postgres_url.replace("/postgres?", "/template_fleet?")).dispose()
    return "template_fleet"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "fleet.db"
    _migrated(database.sqlite_url(path)).dispose()
    return path


@pytest.fixture
def sqlite_engine(tmp_path: Path, sqlite_template: Path) -> Iterator[Engine]:
    """An empty, migrated database."""
    shutil.copyfile(sqlite_template, tmp_path / "fleet.db")
    made = database.connect(database.sqlite_url(tmp_path / "fleet.db"))
    yield made
    made.dispose()


@pytest.fixture
def postgres_engine(postgres_url: str, postgres_template: str) -> Iterator[Engine]:
    """An empty, migrated database."""
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE fleet TEMPLATE {postgres_template}"))
    made = database.connect(postgres_url.replace("/postgres?", "/fleet?"))
    yield made
    made.dispose()
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE fleet"))
    server.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """One test, both databases."""
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture
def world(tmp_path: Path, engine: Engine) -> World:
    return World(tmp_path, engine)


@pytest.fixture
def sqlite_world(tmp_path: Path, sqlite_engine: Engine) -> World:
    """For what does not depend on the database."""
    return World(tmp_path, sqlite_engine)


@pytest.fixture
def api(sqlite_world: World) -> Api:
    return Api(sqlite_world)


def _migrated(url: str) -> Engine:
    made = database.connect(url)
    database.migrate(made)
    return made


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", timeout=60)
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr or done.stdout}")
