"""The database under test: SQLite always; PostgreSQL too where its programs are installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from bench import postgres
from fleet_server.tables import database
from tests.fakes.server_api import Api
from tests.fakes.server_world import World


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A cluster of our own."""
    if reason := postgres.obstacle():
        pytest.skip(reason)
    with postgres.running(durable=False) as cluster:
        yield cluster.url


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
