"""Opens the outbox's file: makes it, takes over an older one, or sets a damaged one aside and goes on with what can be read of it."""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.outbox import database, header, mending, takeover, witness
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import Damaged
from edge_agent.outbox.rescue import Known, rescue
from edge_agent.outbox.witness import LostLog
from edge_agent.storage import atomic

log = logging.getLogger(__name__)

_KEPT = 2
"""Damaged files, for a person to look at; each may be as large as the quota."""
_SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Damage:
    """What was wrong, and what became of the records that waited: `carried` wait still, `lost` are counted as dropped."""

    message: str
    carried: int
    lost: int
    is_new_epoch: bool = False


@dataclass(frozen=True)
class Opened:
    db: sqlite3.Connection
    account: Account
    damage: Damage | None = None


def open_file(path: Path, new_epoch: Callable[[], str]) -> Opened:
    """Raises sqlite3.Error for a file that may be whole (locked, full, no permission), OSError."""
    _finish(path)
    try:
        return _open(path, new_epoch)
    except sqlite3.Error as error:
        if not database.is_damage(error):
            raise
        return renew(path, new_epoch, Known(is_old=isinstance(error, LostLog)), str(error))


def renew(path: Path, new_epoch: Callable[[], str], known: Known, message: str) -> Opened:
    """A new file with what can still be read, and with the notes, so that no input is read twice; the one that was there is set aside when the new
    one is whole. Raises sqlite3.Error, OSError."""
    log.error("outbox %s is damaged and set aside: %s", path, message)
    into = _rescue_of(path)
    _remove(into)
    rescued = rescue(path, into, known, new_epoch)
    set_aside(path)
    atomic.move(into, path)
    opened = _open(path, new_epoch)
    return Opened(opened.db, opened.account, Damage(message, rescued.carried, rescued.lost, rescued.is_new_epoch))


def set_aside(path: Path) -> None:
    """As `outbox.damaged-<n>`; only the newest few of them stay."""
    numbers = sorted(int(found.name.rpartition("-")[2]) for found in path.parent.glob(f"{path.stem}.damaged-*[0-9]"))
    number = numbers[-1] + 1 if numbers else 1
    for suffix in _SUFFIXES:
        damaged = path.with_name(path.name + suffix)
        if damaged.exists():
            damaged.replace(path.with_name(f"{path.stem}.damaged-{number}{suffix}"))
    for old in [kept for kept in numbers if kept <= number - _KEPT]:
        for suffix in _SUFFIXES:
            path.with_name(f"{path.stem}.damaged-{old}{suffix}").unlink(missing_ok=True)


def _finish(path: Path) -> None:
    """What a rescue that was cut off has left: whole where the damaged file is gone already."""
    into = _rescue_of(path)
    if into.exists() and not path.exists():
        _remove(path)  # a log that is left beside it is the damaged file's
        atomic.move(into, path)
    _remove(into)


def _rescue_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.rescue")


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _open(path: Path, new_epoch: Callable[[], str]) -> Opened:
    header.check(path)
    seen = witness.look(path)
    db = database.connect(path)
    try:
        witness.check(db, seen)
        return _prepare(db, new_epoch)
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection, new_epoch: Callable[[], str]) -> Opened:
    version = database.version(db)
    if version == takeover.VERSION:
        return Opened(db, takeover.take_over(db))
    if version == 0:
        account = Account(new_epoch())
        db.execute("BEGIN IMMEDIATE")
        database.create(db, account)
        db.execute("COMMIT")
        return Opened(db, account)
    if version != database.SCHEMA_VERSION:
        raise Damaged(f"schema version {version} is not {database.SCHEMA_VERSION}")
    account = database.check(db)
    return Opened(db, account) if database.is_balanced(db, account) else _mend(db, account)


def _mend(db: sqlite3.Connection, account: Account) -> Opened:
    db.execute("BEGIN IMMEDIATE")
    mended = mending.take_out(db, account)
    database.write_account(db, mended)
    db.execute("COMMIT")
    carried = sum(state.queued for state in mended.lanes)
    return Opened(db, mended, Damage("units are not what its account says", carried, mending.lost_records(account, mended)))
