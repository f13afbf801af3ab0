"""Opens the outbox's file: makes it, takes over an older one, or sets a damaged one aside and begins a new epoch."""

import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.outbox import database, takeover
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import Damaged

log = logging.getLogger(__name__)

_KEPT = 2
"""Damaged files, for a person to look at; each may be as large as the quota."""
_SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Opened:
    """`damage` says what was wrong with the file that was set aside."""

    db: sqlite3.Connection
    account: Account
    damage: str | None = None


def open_file(path: Path, new_epoch: Callable[[], str]) -> Opened:
    """Raises sqlite3.Error for a file that may be whole (locked, full, no permission), OSError."""
    try:
        return _open(path, new_epoch, {})
    except sqlite3.Error as error:
        if not database.is_damage(error):
            raise
        return renew(path, new_epoch, _notes(path), str(error))


def renew(path: Path, new_epoch: Callable[[], str], notes: Mapping[str, str], damage: str) -> Opened:
    """A new file with these notes, so that no input is read twice; the one that was there is set aside. Raises sqlite3.Error, OSError."""
    log.error("outbox %s is damaged and set aside: %s", path, damage)
    set_aside(path)
    opened = _open(path, new_epoch, notes)
    return Opened(opened.db, opened.account, damage)


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


def _open(path: Path, new_epoch: Callable[[], str], notes: Mapping[str, str]) -> Opened:
    db = database.connect(path)
    try:
        return Opened(db, _prepare(db, new_epoch, notes))
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection, new_epoch: Callable[[], str], notes: Mapping[str, str]) -> Account:
    version = database.version(db)
    if version == takeover.VERSION:
        return takeover.take_over(db)
    if version == 0:
        account = Account(new_epoch(), notes=notes)
        db.execute("BEGIN IMMEDIATE")
        database.create(db, account)
        db.execute("COMMIT")
        return account
    if version != database.SCHEMA_VERSION:
        raise Damaged(f"schema version {version} is not {database.SCHEMA_VERSION}")
    return database.check(db)


def _notes(path: Path) -> Mapping[str, str]:
    """What can be read still."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
        return database.read_account(db).notes
    return {}
