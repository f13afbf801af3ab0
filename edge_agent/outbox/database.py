"""The outbox's SQLite file: one row a unit, and one for the account. Every row carries its checksum."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from edge_agent.outbox import account as accounts
from edge_agent.outbox.account import Account, BadAccount
from edge_agent.outbox.lanes import LANES
from fleet_contract.compression import Codec
from fleet_contract.messages import Batch, ClockState, Lane, LaneLedger

SCHEMA_VERSION = 3
_PAGE_CACHE_KIB = 512
PAGE_BYTES = 2_048
"""A commit of one record writes a quarter less to the disk than with pages twice as large, and one of a hundred no more."""
_CHECKPOINT_PAGES = 512
"""The log is copied into the database when it is a mebibyte long: pages that many commits touched are then written once. It keeps its room."""
_LANE_SHIFT = 48
"""A unit's key is its lane's number above 48 bits of its first sequence number: the table is clustered by lane, then sequence."""
_ROW_BYTES = 96
"""What a unit takes beside its data."""

_SCHEMA = (
    "CREATE TABLE unit (key INTEGER PRIMARY KEY, count INTEGER NOT NULL, stride INTEGER NOT NULL, sent INTEGER NOT NULL, size INTEGER NOT NULL,"
    " length INTEGER NOT NULL, offset_us INTEGER NOT NULL, codec TEXT NOT NULL, clock TEXT NOT NULL, boot TEXT NOT NULL,"
    " data_checksum INTEGER NOT NULL, checksum INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE account (id INTEGER PRIMARY KEY CHECK (id = 0), body BLOB NOT NULL)",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)
ABOUT = "key, count, stride, sent, size, length, offset_us, codec, clock, boot, data_checksum, checksum"
_LOST_PAGES = frozenset((sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ))


class Damaged(sqlite3.DatabaseError):
    """The file is not what was written."""


class BadUnit(sqlite3.DatabaseError):
    """One unit is not what was written; the others may well be."""

    def __init__(self, unit: int, why: str = "does not fit its checksum") -> None:
        super().__init__(f"unit {unit:#x} {why}")
        self.key = unit


@dataclass(frozen=True)
class About:
    """A unit without its data. `sent`: the server may hold it, so that it stays as it is."""

    key: int
    count: int
    stride: int
    sent: int
    size: int
    length: int
    offset_us: int
    codec: Codec
    clock: ClockState
    boot: str
    data_checksum: int

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


def is_full(error: Exception) -> bool:
    """Whether the disk has no room."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF == sqlite3.SQLITE_FULL


def connect(path: Path) -> sqlite3.Connection:
    """In WAL mode with synchronous=FULL; private. Raises sqlite3.Error."""
    path.touch(mode=0o600)
    db = plain(path)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA cache_size=-{_PAGE_CACHE_KIB}")
        db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    except BaseException:
        db.close()
        raise
    return db


def plain(path: Path) -> sqlite3.Connection:
    """As the file is. Text that is no UTF-8 is read all the same, and then fits no checksum. Raises sqlite3.Error."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda text: text.decode(errors="replace")
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    return db


def version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def create(db: sqlite3.Connection, account: Account) -> None:
    """Within a transaction of the caller's."""
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("INSERT INTO account VALUES (0, ?)", (accounts.encode(account),))


def check(db: sqlite3.Connection) -> Account:
    """Raises sqlite3.Error (Damaged ...) for a file that is not sound; single units are not looked into."""
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise Damaged("its integrity check failed")
    return read_account(db)


def is_balanced(db: sqlite3.Connection, account: Account) -> bool:
    """Whether the units are as many as the account says, and where it says."""
    totals = [
        db.execute(
            "SELECT total(count), total(size), count(*) FROM unit WHERE key >= ? AND key < ?", (key(number, 0), key(number, state.produced))
        ).fetchone()
        for number, state in enumerate(account.lanes)
    ]
    sums = [(state.queued, state.queued_bytes) for state in account.lanes]
    rows = db.execute("SELECT count(*) FROM unit").fetchone()[0]
    return [total[:2] for total in totals] == sums and rows == sum(total[2] for total in totals)


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
    about = (key(LANES.index(batch.lane), batch.first), batch.count, batch.stride, int(sent), size_of(batch), batch.length, offset_us)
    about += (batch.codec, batch.clock, batch.boot, zlib.crc32(batch.data))
    db.execute(f"INSERT INTO unit ({ABOUT}, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", (*about, _checksum(about), batch.data))


def delete(db: sqlite3.Connection, units: list[int]) -> None:
    db.executemany("DELETE FROM unit WHERE key=?", [(unit,) for unit in units])


def mark_sent(db: sqlite3.Connection, unit: About) -> None:
    checksum = _checksum(astuple(replace(unit, sent=1)))
    db.execute("UPDATE unit SET sent=1, checksum=? WHERE key=?", (checksum, unit.key))


def about(db: sqlite3.Connection, first: int, below: int, *, only: str = "") -> Iterator[About]:
    """Units by key, without their data; `only` is a further condition. Raises BadUnit."""
    for row in db.execute(f"SELECT {ABOUT} FROM unit WHERE key >= ? AND key < ? {only} ORDER BY key", (first, below)):
        yield sound(row)


def keys(db: sqlite3.Connection, first: int, below: int) -> Iterator[int]:
    """Of units in order, whatever else is wrong with them."""
    return (row[0] for row in db.execute("SELECT key FROM unit WHERE key >= ? AND key < ? ORDER BY key", (first, below)))


def sound(row: tuple) -> About:
    """Of the columns of ABOUT. Raises BadUnit."""
    if row[-1] != _checksum(row[:-1]) or not 0 <= lane_of(row[0]) < len(LANES):
        raise BadUnit(row[0])
    return About(*row[:-1])


def read(db: sqlite3.Connection, epoch: str, unit: int) -> Batch:
    """Raises sqlite3.Error: BadUnit, Damaged."""
    row = db.execute(f"SELECT {ABOUT}, data FROM unit WHERE key=?", (unit,)).fetchone()
    if row is None:
        raise Damaged(f"unit {unit:#x} is listed, and is not there")
    return whole(epoch, sound(row[:-1]), row[-1])


def whole(epoch: str, unit: About, data: object) -> Batch:
    """Raises BadUnit."""
    if not isinstance(data, bytes) or zlib.crc32(data) != unit.data_checksum:
        raise BadUnit(unit.key)
    lane = LANES[lane_of(unit.key)]
    return Batch(epoch, lane, unit.first, unit.count, unit.codec, unit.length, data, unit.boot, unit.clock, unit.stride)


def oldest(db: sqlite3.Connection, lane: int) -> int | None:
    row = db.execute("SELECT key FROM unit WHERE key >= ? AND key < ? ORDER BY key LIMIT 1", span(lane)).fetchone()
    return None if row is None else sequence_of(row[0])


def read_ledger(path: Path) -> tuple[str, dict[Lane, LaneLedger]]:
    """Epoch and ledger of an outbox that another process may have open. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        account = read_account(db)
        return account.epoch, {lane: account.lanes[number].report(oldest(db, number)) for number, lane in enumerate(LANES)}


def _checksum(about: tuple) -> int:
    """Of everything but the data; a flipped byte may make any type of a column."""
    return zlib.crc32(repr(about).encode(errors="replace"))
