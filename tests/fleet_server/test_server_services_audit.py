"""The audit log: nothing can be changed, taken out or cut off without it showing; and the schema is what the tables say."""

from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from fleet_server.services import audit, tokens
from fleet_server.tables import database
from fleet_server.tables.audit import AuditEntry, AuditHead
from tests.fakes.server_world import START, World


def fill(world: World, count: int = 5) -> None:
    with database.writing(world.engine) as connection:
        for at in range(count):
            audit.append(connection, "me", "test.do", f"thing:{at}", {"n": at, "share": 0.1, "text": "ä", "none": None}, START)


def test_an_untouched_log_is_intact(world: World) -> None:
    assert audit.verify(world.engine) == audit.Verification(True, 0, None)
    fill(world)
    assert audit.verify(world.engine) == audit.Verification(True, 5, None)
    assert [row.subject for row in audit.page(world.engine, 3, 10)] == ["thing:3", "thing:4"]


def _swap(connection: Connection) -> None:
    third = connection.execute(select(AuditEntry).where(AuditEntry.seq == 3)).one()
    connection.execute(delete(AuditEntry).where(AuditEntry.seq == 3))
    connection.execute(insert(AuditEntry).values(**{**third._mapping, "actor": "you"}))


@pytest.mark.parametrize(
    ("tamper", "broken_at"),
    [
        pytest.param(lambda c: c.execute(update(AuditEntry).where(AuditEntry.seq == 2).values(detail={"n": 9})), 2, id="a detail"),
        pytest.param(
            lambda c: c.execute(update(AuditEntry).where(AuditEntry.seq == 1).values(at=START.replace(year=2020))), 1, id="a time"
        ),
        pytest.param(_swap, 3, id="an actor"),
        pytest.param(lambda c: c.execute(delete(AuditEntry).where(AuditEntry.seq == 4)), 4, id="an entry taken out"),
        pytest.param(lambda c: c.execute(delete(AuditEntry).where(AuditEntry.seq == 5)), 5, id="the end cut off"),
        pytest.param(lambda c: c.execute(update(AuditHead).values(seq=6)), 6, id="the head moved"),
    ],
)
def test_tampering_shows(world: World, tamper: Callable[[Connection], object], broken_at: int) -> None:
    fill(world)
    with database.writing(world.engine) as connection:
        tamper(connection)
    found = audit.verify(world.engine)
    assert (found.intact, found.broken_at) == (False, broken_at)


def test_an_entry_never_takes_the_place_of_another(world: World) -> None:
    fill(world)
    with pytest.raises(IntegrityError), database.writing(world.engine) as connection:
        connection.execute(update(AuditHead).values(seq=2))
        audit.append(connection, "me", "test.do", "thing:9", {}, START)
    assert audit.verify(world.engine) == audit.Verification(True, 5, None)


def test_a_change_that_fails_leaves_no_entry(world: World) -> None:
    with pytest.raises(RuntimeError), database.writing(world.engine) as connection:
        audit.append(connection, "me", "test.do", "thing", {}, START)
        raise RuntimeError
    assert audit.verify(world.engine).entries == 0


def test_making_a_token_is_a_change(world: World) -> None:
    text = tokens.create(world.engine, "viewer", by="cli", now=START, new_secret=world.new_secret)
    entry = audit.page(world.engine, 0, 10)[0]
    assert (entry.actor, entry.action, entry.subject) == ("cli", "token.create", tokens.authenticate(world.engine, text).id)
    assert text.split("_")[2] not in str(entry)


def test_the_migrations_make_what_the_tables_say(world: World) -> None:
    assert database.is_current(world.engine)
    with database.reading(world.engine) as connection:
        others = {"include_name": lambda name, kind, _: (kind, name) != ("table", "inbox")}  # it has a MetaData of its own
        assert compare_metadata(MigrationContext.configure(connection, opts=others), SQLModel.metadata) == []


def test_every_commit_reaches_the_disk(sqlite_world: World) -> None:
    """WAL with synchronous=FULL (2): what is acknowledged to a device must survive a power cut."""
    with database.reading(sqlite_world.engine) as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_migrating_again_changes_nothing(world: World) -> None:
    fill(world)
    database.migrate(world.engine)
    assert audit.verify(world.engine).entries == 5


def test_times_come_back_aware_and_in_utc_and_naive_ones_are_refused(world: World) -> None:
    fill(world, 1)
    at = audit.page(world.engine, 0, 1)[0].at
    assert (at, at.utcoffset().total_seconds()) == (START, 0)
    with pytest.raises(Exception, match="time zone"), database.writing(world.engine) as connection:
        connection.execute(update(AuditEntry).values(at=START.replace(tzinfo=None)))
