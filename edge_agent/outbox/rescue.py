"""What can still be read of a damaged file, in a new one.

Where the account is whole, under the same epoch and numbers. Else they might be given twice: a new epoch begins, in which what was never sent is
numbered anew, and what the server may hold already counts as damaged, so that nothing is stored twice.
"""

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from edge_agent.outbox import database, header, mending
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import About, BadUnit, Damaged
from edge_agent.outbox.lanes import LANES, LaneState
from fleet_contract.limits import KIB
from fleet_contract.messages import DAMAGED

_FAILURES = 256
"""Reads of a lane that fail: behind so many, what lies between bad pages is given up."""
_SPARE_BYTES = 256 * KIB


@dataclass(frozen=True)
class Known:
    """What is known besides the file: the account, where it was open (`account`; the units of `gone` are the server's); whether the file is older
    than what was committed (`is_old`), so that nobody knows what was sent since."""

    account: Account | None = None
    gone: Collection[int] = field(default_factory=frozenset)
    is_old: bool = False

    def has(self, unit: About) -> bool:
        """Not what a commit has left that never came about."""
        return unit.key not in self.gone and (self.account is None or unit.last < self.account.lanes[database.lane_of(unit.key)].produced)


@dataclass(frozen=True)
class Rescued:
    """How many records are in the new file, and how many are known to be lost."""

    account: Account
    carried: int
    lost: int
    is_new_epoch: bool


def rescue(path: Path, into: Path, known: Known, new_epoch: Callable[[], str]) -> Rescued:
    """Makes the file `into`, whole when this returns. Raises sqlite3.Error, OSError."""
    header.restore(path)
    with closing(database.plain(path)) as source, closing(database.plain(into)) as target:
        source.execute("PRAGMA writable_schema=ON")  # else nothing of a file that was cut short can be read
        account = known.account or _account(source)
        target.execute("PRAGMA journal_mode=MEMORY")
        target.execute("PRAGMA synchronous=FULL")
        target.execute("BEGIN IMMEDIATE")
        database.create(target, account or Account(""))
        _copy(source, target, known, _room_bytes(into.parent))
        rescued = None if account is None or known.is_old else _kept(target, account)
        if rescued is None:
            rescued = _renumbered(target, account, new_epoch(), is_old=known.is_old)
        database.write_account(target, rescued.account)
        target.execute("COMMIT")
    return rescued


def readable(db: sqlite3.Connection, first: int, below: int) -> Iterator[tuple]:
    """Rows of units (ABOUT, data) from both sides of what cannot be read, and from between such places, in no order."""
    failures, ranges = 0, deque([(first, below)])
    while ranges and failures < _FAILURES:
        low, high = ranges.popleft()
        for order in ("ASC", "DESC"):
            try:
                for row in db.execute(
                    f"SELECT {database.ABOUT}, data FROM unit WHERE key >= ? AND key < ? ORDER BY key {order}", (low, high)
                ):
                    if low <= row[0] < high:
                        low, high = (row[0] + 1, high) if order == "ASC" else (low, row[0])
                        yield row
                break
            except sqlite3.Error as error:
                _check_is_hole(error)
                failures += 1
        else:
            middle = (low + high) // 2
            ranges.extend([(low, middle), (middle, high)] if low < middle else [])


def _check_is_hole(error: sqlite3.Error) -> None:
    """Raises what says nothing of the file."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    if not database.is_damage(error) and code & 0xFF != sqlite3.SQLITE_ERROR:
        raise error


def _account(db: sqlite3.Connection) -> Account | None:
    try:
        return database.read_account(db)
    except sqlite3.Error as error:
        _check_is_hole(error)
        return None


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, known: Known, room_bytes: int) -> None:
    """The highest lane first: where there is no room for all."""
    for number in range(len(LANES)):
        for row in readable(source, *database.span(number)):
            with suppress(BadUnit):
                unit = database.sound(row[:-1])
                batch = database.whole("", unit, row[-1])
                room_bytes -= unit.size
                if known.has(unit) and room_bytes >= 0:
                    database.insert(target, batch, unit.offset_us, sent=bool(unit.sent))


def _kept(db: sqlite3.Connection, account: Account) -> Rescued | None:
    """None where the account is not of these units."""
    try:
        kept = mending.take_out(db, account)
    except Damaged:
        return None
    return Rescued(kept, _queued(kept), mending.lost_records(account, kept), is_new_epoch=False)


def _renumbered(db: sqlite3.Connection, old: Account | None, epoch: str, *, is_old: bool) -> Rescued:
    account = Account(epoch, notes=_notes(old))
    for number in range(len(LANES)):
        state, found, end = LaneState(), 0, 0
        for unit in list(database.about(db, *database.span(number))):
            batch = database.read(db, epoch, unit.key)
            database.delete(db, [unit.key])
            found += unit.count
            if unit.first >= end and not (unit.sent or is_old):
                database.insert(db, structs.replace(batch, first=state.produced, stride=1), unit.offset_us)
                state = state.added(unit.count, unit.size)
            end = max(end, unit.last + 1)
        expected = found if old is None else max(found, old.lanes[number].queued)
        account = account.with_lane(number, state.refused(DAMAGED, expected - state.queued))
    return Rescued(account, _queued(account), sum(state.dropped.get(DAMAGED, 0) for state in account.lanes), is_new_epoch=True)


def _queued(account: Account) -> int:
    return sum(state.queued for state in account.lanes)


def _notes(account: Account | None) -> Mapping[str, str]:
    return {} if account is None else account.notes


def _room_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize - _SPARE_BYTES
