"""The outbox's SQLite file: one row a unit, and one for the account. Every row carries its checksum."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_agent.outbox import account as accounts
from edge_agent.outbox.account import Account, BadAccount
from edge_agent.outbox.lanes import LANES
from fleet_contract.messages import Batch, Lane, LaneLedger

SCHEMA_VERSION = 2
_PAGE_CACHE_KIB = 512
_PAGE_BYTES = 2_048
"""A commit of one record writes a quarter less to the disk than with pages twice as large, and one of a hundred no more."""
_CHECKPOINT_PAGES = 512
"""The log is copied into the database when it is a mebibyte long: pages that many commits touched are then written once. It keeps its room."""
_LANE_SHIFT = 48
"""A unit's key is its lane's number above 48 bits of its first sequence number: the table is clustered by lane, then sequence."""
_ROW_BYTES = 96
"""What a unit takes beside its data."""

_SCHEMA = (
    "CREATE TABLE unit (key INTEGER PRIMARY KEY, count INTEGER NOT NULL, stride INTEGER NOT NULL, sent INTEGER NOT NULL, size INTEGER NOT NULL,"
    " length INTEGER NOT NULL, offset_us INTEGER NOT NULL, checksum INTEGER NOT NULL, codec TEXT NOT NULL, clock TEXT NOT NULL, boot TEXT NOT NULL,"
    " data BLOB NOT NULL)",
    "CREATE TABLE account (id INTEGER PRIMARY KEY CHECK (id = 0), body BLOB NOT NULL)",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)
_ABOUT = "key, count, stride, sent, size, length, offset_us, clock, boot"
_LOST_PAGES = frozenset((sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ))


class Damaged(sqlite3.DatabaseError):
    """A row is not what was written."""


@dataclass(frozen=True)
class About:
    """A unit without its data. `sent`: the server may hold it, so that it stays as it is."""

    key: int
    count: int
    stride: int
    sent: bool
    size: int
    length: int
    offset_us: int
    clock: str
    boot: str

    @property
    def first(self) -> int:
        return sequence_of(self.key)

    @property
    def last(self) -> int:
        return self.first + (self.count - 1) * self.stride


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is wrong, so that trying again is of no use."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, Damaged) or code in _LOST_PAGES or (code or 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connect(path: Path) -> sqlite3.Connection:
    """In WAL mode with synchronous=FULL; private. Raises sqlite3.Error."""
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA cache_size=-{_PAGE_CACHE_KIB}")
        db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    except BaseException:
        db.close()
        raise
    return db


def version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def create(db: sqlite3.Connection, account: Account) -> None:
    """Within a transaction of the caller's."""
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("INSERT INTO account VALUES (0, ?)", (accounts.encode(account),))


def check(db: sqlite3.Connection) -> Account:
    """Raises sqlite3.Error (Damaged ...) for a file that is not sound."""
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise Damaged("its integrity check failed")
    account = read_account(db)
    for number, state in enumerate(account.lanes):
        found = db.execute("SELECT total(count), total(size) FROM unit WHERE key >= ? AND key < ?", span(number)).fetchone()
        if found != (state.queued, state.queued_bytes):
            raise Damaged(f"lane {LANES[number].value} holds {found[0]:.0f} records, its account says {state.queued}")
    return account


def key(lane: int, sequence: int) -> int:
    return lane << _LANE_SHIFT | sequence


def lane_of(unit: int) -> int:
    return unit >> _LANE_SHIFT


def sequence_of(unit: int) -> int:
    return unit & ((1 << _LANE_SHIFT) - 1)


def span(lane: int, first: int = 0) -> tuple[int, int]:
    """The keys of a lane from a number on: from, below."""
    return key(lane, first), key(lane + 1, 0)


def size_of(batch: Batch) -> int:
    return len(batch.data) + _ROW_BYTES


def read_account(db: sqlite3.Connection) -> Account:
    row = db.execute("SELECT body FROM account").fetchone()
    try:
        return accounts.decode(row[0] if row else b"")
    except BadAccount as error:
        raise Damaged(str(error)) from error


def write_account(db: sqlite3.Connection, account: Account) -> None:
    db.execute("UPDATE account SET body=?", (accounts.encode(account),))


def insert(db: sqlite3.Connection, batch: Batch, offset_us: int, *, sent: bool = False) -> None:
    unit = key(LANES.index(batch.lane), batch.first)
    checksum = _checksum(unit, batch.count, batch.stride, batch.data)
    about = (unit, batch.count, batch.stride, sent, size_of(batch), batch.length, offset_us, checksum, batch.codec, batch.clock, batch.boot)
    db.execute("INSERT INTO unit VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", (*about, batch.data))


def delete(db: sqlite3.Connection, units: list[int]) -> None:
    db.executemany("DELETE FROM unit WHERE key=?", [(unit,) for unit in units])


def mark_sent(db: sqlite3.Connection, unit: int) -> None:
    db.execute("UPDATE unit SET sent=1 WHERE key=?", (unit,))


def about(db: sqlite3.Connection, first: int, below: int, *, only: str = "") -> Iterator[About]:
    """Units by key, without their data; `only` is a further condition."""
    for row in db.execute(f"SELECT {_ABOUT} FROM unit WHERE key >= ? AND key < ? {only} ORDER BY key", (first, below)):
        yield About(row[0], row[1], row[2], bool(row[3]), *row[4:])


def read(db: sqlite3.Connection, epoch: str, unit: int) -> Batch:
    """Raises Damaged."""
    row = db.execute("SELECT count, stride, length, checksum, codec, clock, boot, data FROM unit WHERE key=?", (unit,)).fetchone()
    if row is None or row[3] != _checksum(unit, row[0], row[1], row[7]):
        raise Damaged(f"unit {sequence_of(unit)} of lane {LANES[lane_of(unit)].value} does not fit its checksum")
    count, stride, length, _, codec, clock, boot, data = row
    return Batch(epoch, LANES[lane_of(unit)], sequence_of(unit), count, codec, length, data, boot, clock, stride)


def file_bytes(db: sqlite3.Connection) -> int:
    """Of the database, free pages included."""
    return db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]


def oldest(db: sqlite3.Connection, lane: int) -> int | None:
    row = db.execute("SELECT key FROM unit WHERE key >= ? AND key < ? ORDER BY key LIMIT 1", span(lane)).fetchone()
    return None if row is None else sequence_of(row[0])


def read_ledger(path: Path) -> tuple[str, dict[Lane, LaneLedger]]:
    """Epoch and ledger of an outbox that another process may have open. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        account = read_account(db)
        return account.epoch, {lane: account.lanes[number].report(oldest(db, number)) for number, lane in enumerate(LANES)}


def _checksum(unit: int, count: int, stride: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(b"%d,%d,%d" % (unit, count, stride)))
