"""An inbox in a table: one row a group commit, in a SQLite file of its own or in the fleet's PostgreSQL database."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    delete,
    event,
    func,
    insert,
    select,
    text,
)

from fleet_server.inbox import segment
from fleet_server.inbox.port import Backlog, Segment
from fleet_server.inbox.segment import Arrival, BadSegment
from fleet_server.tables import database
from fleet_server.tables.lake import LakeState

FILE = "inbox.db"
_PAGE_BYTES = 16_384
"""Messages are large beside SQLite's usual 4 KiB: fewer pages to write, to chain and to free."""
_CHECKPOINT_PAGES = 2_048
_MAX_SEGMENTS = 4_096
_COMMITS = 0x65646765
"""PostgreSQL's advisory lock around taking an id and committing it: without it a reader may see an id before a lower one."""

INBOX = Table(
    "inbox",
    MetaData(),
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)


class SqlInbox:
    """Implements inbox.port.Inbox. Any number of processes may write, one reads and forgets."""

    def __init__(self, engine: Engine) -> None:
        """The engine is the caller's to dispose of."""
        self.engine = engine

    def append(self, arrivals: Sequence[Arrival], at_us: int) -> int:
        row = {
            "at_us": at_us,
            "messages": len(arrivals),
            "bytes": sum(len(arrival.payload) for arrival in arrivals),
            "content": segment.pack(arrivals),
        }
        with database.writing(self.engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _COMMITS})
            return connection.execute(insert(INBOX), row).inserted_primary_key[0]

    def read(self, after: int, max_bytes: int) -> list[Segment]:
        with database.reading(self.engine) as connection:
            last = _last_within(connection, after, max_bytes)
            wanted = select(INBOX.c.id, INBOX.c.content).where(INBOX.c.id > after, INBOX.c.id <= last).order_by(INBOX.c.id)
            return [_open(id, content) for id, content in connection.execute(wanted)]

    def forget(self, through: int) -> None:
        with database.writing(self.engine) as connection:
            connection.execute(delete(INBOX).where(INBOX.c.id <= through))

    def backlog(self) -> Backlog:
        wanted = select(func.count(), func.sum(INBOX.c.messages), func.sum(INBOX.c.bytes), func.min(INBOX.c.at_us)).select_from(INBOX)
        with database.reading(self.engine) as connection:
            segments, messages, size, oldest = connection.execute(wanted).one()
        return Backlog(segments, int(messages or 0), int(size or 0), oldest)


def open_file(path: Path) -> SqlInbox:
    """The inbox in a SQLite file, which is made where there is none."""
    engine = database.connect(database.sqlite_url(path))
    event.listen(engine, "connect", _size_pages, insert=True)
    with database.writing(engine) as connection:
        INBOX.create(connection, checkfirst=True)
    return SqlInbox(engine)


def open_beside(engine: Engine, home: Path) -> SqlInbox:
    """The inbox of a server whose database `engine` is: there, where that is PostgreSQL; else in a file in the home. Its `engine` is to be disposed
    of either way."""
    if engine.dialect.name != "sqlite":
        return SqlInbox(engine)
    inbox = open_file(home / FILE)
    with database.reading(engine) as connection:
        taken = connection.execute(select(LakeState.watermark)).scalar_one()
    _begin_above(inbox, taken)
    return inbox


def _begin_above(inbox: SqlInbox, taken: int) -> None:
    """A file that is new, or older than the database, would give ids that the compactor has passed: it would never look at them."""
    with database.writing(inbox.engine) as connection:
        connection.execute(text("UPDATE sqlite_sequence SET seq = :id WHERE name = :name AND seq < :id"), {"id": taken, "name": INBOX.name})
        missing = "INSERT INTO sqlite_sequence SELECT :name, :id WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name)"
        connection.execute(text(missing), {"id": taken, "name": INBOX.name})


def _open(id: int, content: bytes) -> Segment:
    try:
        return Segment(id, segment.unpack(content))
    except BadSegment:
        return Segment(id, [], damaged=content)


def _last_within(connection: Connection, after: int, max_bytes: int) -> int:
    sizes = select(INBOX.c.id, INBOX.c.bytes).where(INBOX.c.id > after).order_by(INBOX.c.id).limit(_MAX_SEGMENTS)
    rows = connection.execute(sizes).all()
    totals = accumulate(size for _, size in rows)
    fitting = [id for (id, _), total in zip(rows, totals, strict=True) if total <= max_bytes]
    return fitting[-1] if fitting else rows[0][0] if rows else after


def _size_pages(connection: object, _record: object) -> None:
    """Before the file is made WAL, which fixes the size."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    cursor.close()
