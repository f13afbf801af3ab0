"""The compactor as a real process that is killed at any moment: nothing is lost, nothing is there twice."""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, func, insert, select

from fleet_contract import batches, messages
from fleet_contract.instants import microseconds
from fleet_contract.messages import Lane, Result
from fleet_server.inbox import sql
from fleet_server.inbox.segment import Arrival
from fleet_server.inbox.sql import SqlInbox
from fleet_server.lake import catalogue
from fleet_server.lake.running import Job, serve
from fleet_server.tables import database
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.lake import LakeFile
from fleet_server.tables.minutes import Minute
from fleet_server.tables.stream import Stream
from tests.fakes.server_world import START

pytestmark = pytest.mark.e2e
LIVES, SEGMENTS_A_LIFE, ROWS = 8, 10, 50
PATIENCE_S = 60.0


@contextmanager
def running(home: Path) -> Iterator[BaseProcess]:
    """The compactor in a process of its own; what it imports is imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fleet_server.lake.running"])
    process = context.Process(target=serve, args=(Job(home, database.sqlite_url(home / "fleet.db")),))
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # looks, and waits for nothing else


def send(inbox: SqlInbox, first: int) -> None:
    """A segment with one batch in it, twice."""
    made = [Result(START, "a" * 64, str(number), "yes", 0.5, 10) for number in range(first, first + ROWS)]
    wire = messages.encode(batches.make("e1", Lane.TELEMETRY, first, made))
    inbox.append([Arrival("cam", microseconds(START), wire)] * 2, microseconds(START))


def lying(home: Path) -> set[str]:
    return {str(path.relative_to(home / "lake")) for path in (home / "lake").rglob("*.parquet")}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = database.connect(database.sqlite_url(tmp_path / "fleet.db"))
    database.migrate(made)
    with writing(made) as connection:
        connection.execute(insert(Device), Device(id="cam", profile="p", task="toy", enrolled_at=START).model_dump())
    yield made
    made.dispose()


@pytest.fixture
def inbox(engine: Engine, tmp_path: Path) -> Iterator[SqlInbox]:
    made = sql.open_beside(engine, tmp_path)
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("seed", [7])
def test_killed_at_any_moment_it_stores_everything_once(seed: int, engine: Engine, inbox: SqlInbox, tmp_path: Path) -> None:
    draw, sent = random.Random(seed), 0
    for _ in range(LIVES):
        before = catalogue.watermark(engine), lying(tmp_path)
        with running(tmp_path) as process:
            for _ in range(SEGMENTS_A_LIFE):
                send(inbox, sent)
                sent += ROWS
            until(lambda: (catalogue.watermark(engine), lying(tmp_path)) != before)  # noqa: B023 - called here alone
            time.sleep(draw.uniform(0, 0.02))  # the moment is what is tried
            process.kill()
    with running(tmp_path):
        until(lambda: inbox.backlog().segments == 0)
    with reading(engine) as connection:
        paths = [row.path for row in catalogue.listed(connection)]
        known = set(connection.execute(select(LakeFile.path)).scalars())  # merged ones too, for as long as a reader may have listed them
        stored = connection.execute(select(func.sum(Stream.stored))).scalar_one()
        inputs = connection.execute(select(func.sum(Minute.inputs))).scalar_one()
    numbers = [seq for path in paths for seq in pq.read_table(tmp_path / "lake" / path, partitioning=None)["seq"].to_pylist()]
    assert (sorted(numbers), stored, inputs) == (list(range(sent)), sent, sent)
    assert lying(tmp_path) == known
