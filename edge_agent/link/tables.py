"""The outbox's database: opening it, setting a damaged one aside, and its tables."""

import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edge_agent.link.ledger import LANES, LaneState

log = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_PAGE_CACHE_KIB = 512
_LANE_SHIFT = 48
"""A record's key is its lane's number above 48 bits of sequence: the table is clustered by lane, then sequence."""

_SCHEMA = (
    "CREATE TABLE record (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE lane (lane INTEGER PRIMARY KEY, produced INTEGER NOT NULL, acknowledged INTEGER NOT NULL, queued INTEGER NOT NULL,"
    " queued_bytes INTEGER NOT NULL, sent_below INTEGER NOT NULL, dropped TEXT NOT NULL)",
    "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA user_version={_SCHEMA_VERSION}",
)


def open_database(path: Path, new_epoch: Callable[[], str]) -> tuple[sqlite3.Connection, bool]:
    """A connection in WAL mode with synchronous=FULL, and whether a damaged database had to be set aside for it. Raises sqlite3.Error."""
    try:
        return _open(path, new_epoch), False
    except sqlite3.OperationalError:
        raise  # locked, full, no permission: the data may be whole
    except sqlite3.DatabaseError as error:
        log.error("outbox %s is damaged and set aside: %s", path, error)
        for suffix in ("", "-wal", "-shm"):
            damaged = path.with_name(path.name + suffix)
            if damaged.exists():
                damaged.replace(path.with_name(f"{path.name}.damaged{suffix}"))
        return _open(path, new_epoch), True


def key(lane: int, sequence: int) -> int:
    return lane << _LANE_SHIFT | sequence


def sequence_of(record_id: int) -> int:
    return record_id & ((1 << _LANE_SHIFT) - 1)


def read_lanes(db: sqlite3.Connection) -> list[LaneState]:
    rows = db.execute("SELECT produced, acknowledged, queued, queued_bytes, sent_below, dropped FROM lane ORDER BY lane")
    return [LaneState(*numbers, dropped=json.loads(dropped)) for *numbers, dropped in rows]


def write_lane(db: sqlite3.Connection, lane: int, state: LaneState) -> None:
    db.execute(
        "UPDATE lane SET produced=?, acknowledged=?, queued=?, queued_bytes=?, sent_below=?, dropped=? WHERE lane=?",
        (state.produced, state.acknowledged, state.queued, state.queued_bytes, state.sent_below, json.dumps(state.dropped), lane),
    )


def read_note(db: sqlite3.Connection, name: str) -> str | None:
    row = db.execute("SELECT value FROM note WHERE name=?", (name,)).fetchone()
    return row[0] if row else None


def write_note(db: sqlite3.Connection, name: str, value: str) -> None:
    db.execute("INSERT INTO note VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value=excluded.value", (name, value))


def read_ledger(path: Path) -> tuple[str, list[LaneState]]:
    """Epoch and lanes of an outbox that another process may have open. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return read_note(db, "epoch") or "", read_lanes(db)


def _open(path: Path, new_epoch: Callable[[], str]) -> sqlite3.Connection:
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db, new_epoch)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, new_epoch: Callable[[], str]) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA cache_size=-{_PAGE_CACHE_KIB}")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        _create(db, new_epoch())
    elif version != _SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"schema version {version} is not {_SCHEMA_VERSION}")
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok" or len(read_lanes(db)) != len(LANES):
        raise sqlite3.DatabaseError("its integrity check failed")


def _create(db: sqlite3.Connection, epoch: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    db.executemany("INSERT INTO lane VALUES (?, 0, 0, 0, 0, 0, '{}')", [(lane,) for lane in range(len(LANES))])
    write_note(db, "epoch", epoch)
    db.execute("COMMIT")
