"""A damaged outbox is noticed, set aside and told of, and the agent goes on."""

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.errors import Retry
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.outbox.store import Outbox
from fleet_contract.messages import Event, Lane, Record, Sample
from tests.fakes.agent_outbox import Clocks, records_in

AT = Clocks().now.at


def sample() -> Sample:
    return Sample(at=AT, bundle="b", campaign="c", input_id="i", media_type="image/png", data=os.urandom(30_000), label=None, value=0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], Outbox]]:
    """Opens it as often as one likes, with an epoch of its own for each new file."""
    epochs = (f"epoch-{number}" for number in itertools.count(1))
    some: list[Outbox] = []

    def make() -> Outbox:
        for outbox in some:
            outbox.close()
        some[:] = [Outbox(path, new_epoch=lambda: next(epochs), read=Clocks(), settings=OutboxSettings(ballast_bytes=0))]
        return some[0]

    yield make
    for outbox in some:
        outbox.close()


def resets(outbox: Outbox) -> list[str]:
    found = records_in(outbox.batches(100, lanes=[Lane.EVENTS]))
    return [record.kind for record in found if isinstance(record, Event)]


def fill(outbox: Outbox) -> None:
    for number in range(5):
        outbox.append([sample()], cursor=str(number))


def scribble(path: Path, at: int, size: int = 200) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(size))


DAMAGES = [
    pytest.param(lambda path: path.write_bytes(b"not a database" * 1_000), None, id="another file"),
    pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), None, id="a truncated file"),
    pytest.param(lambda path: scribble(path, 0, 100), None, id="the header"),
    pytest.param(lambda path: scribble(path, 2_048), "4", id="a page of units"),
]


@pytest.mark.parametrize(("damage", "cursor"), DAMAGES)
def test_a_damaged_file_is_set_aside_at_the_start(
    path: Path, opened: Callable[[], Outbox], damage: Callable[[Path], None], cursor: str | None
) -> None:
    fill(opened())
    opened().close()
    damage(path)
    outbox = opened()
    outbox.append([sample()])
    assert (outbox.epoch, outbox.cursor(), resets(outbox)) == ("epoch-2", cursor, ["outbox.reset"])
    assert path.with_name("outbox.damaged-1").exists()
    assert outbox.ledger()[Lane.SAMPLES].produced == 1


def test_flipped_bytes_of_a_unit_are_found_when_it_is_sent(path: Path, opened: Callable[[], Outbox]) -> None:
    fill(opened())
    opened().close()
    scribble(path, path.stat().st_size * 7 // 10, 1)
    outbox = opened()
    with pytest.raises(Retry, match="checksum"):
        outbox.batches(100)
    outbox.append([sample()], cursor="5")
    assert (outbox.epoch, outbox.cursor(), resets(outbox)) == ("epoch-2", "5", ["outbox.reset"])
    assert outbox.ledger()[Lane.SAMPLES].produced == 1


def test_damage_while_it_runs_loses_what_was_queued_and_nothing_that_comes(path: Path, opened: Callable[[], Outbox]) -> None:
    outbox = opened()
    fill(outbox)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox._shelf._db.execute("PRAGMA shrink_memory")
    scribble(path, 0, path.stat().st_size)
    taken: list[Record] = [sample() for _ in range(3)]
    for number, record in enumerate(taken):
        while True:
            try:
                outbox.append([record], cursor=f"later-{number}")
                break
            except Retry:
                pass
    assert (outbox.epoch, outbox.cursor(), resets(outbox)) == ("epoch-2", "later-2", ["outbox.reset"])
    assert records_in(outbox.batches(100)) == taken


def test_only_the_newest_damaged_files_are_kept(path: Path, opened: Callable[[], Outbox]) -> None:
    for _ in range(4):
        path.write_bytes(b"not a database" * 1_000)
        opened().close()
    assert sorted(found.name for found in path.parent.glob("outbox.damaged-*")) == ["outbox.damaged-3", "outbox.damaged-4"]


def test_a_sound_file_is_not_touched(path: Path, opened: Callable[[], Outbox]) -> None:
    fill(opened())
    assert (opened().epoch, resets(opened())) == ("epoch-1", [])
    assert path.stat().st_mode & 0o777 == 0o600
