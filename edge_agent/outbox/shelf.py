"""The outbox's file and what is known of it: every change is one transaction, under one lock."""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.errors import Retry
from edge_agent.outbox import database, eviction, handing, mending, merging, opening, writing
from edge_agent.outbox.account import Account
from edge_agent.outbox.ballast import Ballast
from edge_agent.outbox.database import BadUnit, Damaged
from edge_agent.outbox.entries import Entry, Traced, enter
from edge_agent.outbox.handing import Handed
from edge_agent.outbox.lanes import LANES
from edge_agent.outbox.rescue import Known
from edge_agent.outbox.sealing import Packer
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.outbox.staging import Work
from edge_agent.outbox.writing import Parcel
from edge_agent.ports import Reading
from fleet_contract.errors import ContractError
from fleet_contract.limits import KIB
from fleet_contract.messages import OUTBOX_RESET, Batch, DiskUse, Event, Lane

HARMED = "outbox.damaged"
_MERGED_EVERY = 64
"""Units of a lane that are written before the small ones among them are made one, where nobody sends them."""
_PARTS = 3
"""One of so many of the ballast is for what comes when the disk is full."""
_CLEANED = 8
"""One of so many of what may wait goes, when the ballast's room is used up too."""
_NEAR_BYTES = 64 * KIB
_MENDINGS = 16
"""Damaged units that are taken out one by one before the whole file counts as damaged."""


@dataclass(frozen=True)
class Done:
    """What a commit found for each job, and which of its records are followed."""

    found: Sequence[list[Batch]]
    traced: dict[int, Traced]


@dataclass
class _Tail:
    """Of one lane: the units since the last merging, and whence the next begins."""

    units: int = 0
    first: int = 0


class Shelf:
    """`account` and `ledger` are whole at any time, from any thread, without waiting."""

    def __init__(self, path: Path, *, new_epoch: Callable[[], str], read: Callable[[], Reading], settings: OutboxSettings) -> None:
        """Raises Retry (disk)."""
        self._path, self._new_epoch, self._read, self._settings = path, new_epoch, read, settings
        self._lock = threading.Lock()
        self._ballast = Ballast(path.with_name(f"{path.stem}.ballast"), settings.ballast_bytes)
        self._max_bytes = settings.max_bytes
        self._news: list[Entry] = []
        self._damage: str | None = None
        try:
            self._begin(opening.open_file(path, new_epoch))
        except (sqlite3.Error, OSError) as error:
            raise Retry(f"outbox {path}: {error}", code="disk") from error
        self._ballast.lay()

    def commit(self, work: Work, parcels: Sequence[Parcel], written_bytes: int) -> Done:
        """Raises Retry (disk): nothing of it is done. After damage there is a new file, and trying again is of use."""
        with self._lock:
            self._tend_ballast()
            may_relieve = True
            for _ in range(_MENDINGS):
                try:
                    self._replace_damaged()
                    return self._commit(work, parcels, written_bytes)
                except (sqlite3.Error, ContractError, OSError) as error:
                    self._roll_back()
                    is_relieved = may_relieve and database.is_full(error) and self._relieve()
                    may_relieve = may_relieve and not is_relieved
                    if not is_relieved and not self._is_mended(error):
                        raise self._failure(error) from error
            raise self._failure(Damaged(f"more than {_MENDINGS} units are damaged"))

    def acknowledge(self, lane: Lane, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether anything was. Raises Retry (disk)."""
        number = LANES.index(lane)
        with self._lock:
            before = len(self._handed.landed)
            try:
                for first, last in ranges:
                    self._land(number, max(first, 0), min(last, self.account.lanes[number].produced - 1))
                self._publish()
            except sqlite3.Error as error:
                if not self._is_mended(error):
                    raise self._failure(error) from error
            return len(self._handed.landed) > before

    def rewind(self, units: Sequence[tuple[Lane, int]] | None) -> None:
        with self._lock:
            if units is None:
                self._handed.rewind(self.account)
            for lane, first in units or ():
                self._handed.out.pop(database.key(LANES.index(lane), first), None)

    def is_all_out(self, lanes: Collection[Lane]) -> bool:
        return not self._news and self._handed.is_all_out(self.account, lanes)

    def is_short(self, staged_bytes: int) -> bool:
        """Whether the disk is full, and what is staged would cost what waits."""
        is_full = self._max_bytes < self._settings.max_bytes
        return is_full and self.account.queued_bytes + staged_bytes + _NEAR_BYTES > self._max_bytes

    def disk(self) -> DiskUse:
        account = self.account
        return DiskUse(account.queued_bytes, self._settings.max_bytes, account.record_bytes, account.written_bytes)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _begin(self, opened: opening.Opened) -> None:
        self._db, self.account, self._durable = opened.db, opened.account, opened.account
        self._handed = Handed([state.produced for state in opened.account.lanes])
        self._tails = [_Tail(first=state.produced) for state in opened.account.lanes]
        self._damage = None
        if opened.damage is not None:
            self._tell(opened.damage)
        self._publish()

    def _tell(self, damage: opening.Damage) -> None:
        reading = self._read()
        detail = {"message": damage.message[:300], "carried": damage.carried, "lost": damage.lost}
        self._news.append(enter([Event(at=reading.at, kind=OUTBOX_RESET if damage.is_new_epoch else HARMED, detail=detail)], reading, {}))

    def _commit(self, work: Work, parcels: Sequence[Parcel], written_bytes: int) -> Done:
        news = list(self._news)
        self._db.execute("BEGIN IMMEDIATE")
        database.delete(self._db, list(self._handed.landed))
        account = replace(self.account, written_bytes=self.account.written_bytes + written_bytes)
        account, traced, units = writing.write(self._db, account, [*news, *work.entries], [*writing.pack(news, Packer())[1], *parcels])
        for (lane, reason), count in work.drops.items():
            account = account.with_lane(lane, account.lanes[lane].refused(reason, count))
        reasons = eviction.FULL_DISK if self._max_bytes < self._settings.max_bytes else eviction.Reasons()
        account = eviction.make_room(self._db, account, self._max_bytes, self._settings.shares, reasons)
        account = self._merge_tails(account, units)
        account, found = self._hand_out(account, work)
        if self._handed.landed or replace(account, written_bytes=0) != replace(self._durable, written_bytes=0):
            database.write_account(self._db, account)
        self._db.execute("COMMIT")
        self._news = self._news[len(news) :]
        self._settle(account, found)
        return Done(found, traced)

    def _hand_out(self, account: Account, work: Work) -> tuple[Account, list[list[Batch]]]:
        found: list[list[Batch]] = []
        for job in work.jobs:
            account, batches = handing.hand_out(self._db, account, self._handed, self._read(), job.wanted)
            found.append(batches)
        return account, found

    def _merge_tails(self, account: Account, units: Sequence[int]) -> Account:
        for number, count in enumerate(units):
            tail = self._tails[number]
            tail.units += count
            if tail.units >= _MERGED_EVERY:
                account, tail.first = merging.merge_from(self._db, account, number, tail.first)
                tail.units = 0
        return account

    def _settle(self, account: Account, found: Iterable[Sequence[Batch]]) -> None:
        self.account = self._durable = account
        self._handed.landed.clear()
        for batches in found:
            self._handed.out |= {database.key(LANES.index(batch.lane), batch.first): batch.count for batch in batches}
        with suppress(sqlite3.Error):  # it is committed: what cannot be read is found by whoever needs it
            self._publish()

    def _land(self, number: int, first: int, last: int) -> None:
        if first > last:
            return
        for unit in list(database.about(self._db, database.key(number, first), database.key(number, last) + 1, only="AND sent=1")):
            if unit.last <= last and unit.key not in self._handed.landed:
                self._handed.landed.add(unit.key)
                self._handed.out.pop(unit.key, None)
                self.account = self.account.with_lane(number, self.account.lanes[number].forgotten(unit.count, unit.size))

    def _publish(self) -> None:
        """What the ledger says, for whoever asks."""
        self.ledger = {
            lane: state.report(self._oldest(number)) for (number, lane), state in zip(enumerate(LANES), self.account.lanes, strict=True)
        }

    def _oldest(self, number: int) -> int | None:
        units = database.keys(self._db, *database.span(number))
        return next((database.sequence_of(unit) for unit in units if unit not in self._handed.landed), None)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _failure(self, error: Exception) -> Retry:
        """A damaged file is replaced before anybody tries again."""
        if isinstance(error, sqlite3.Error) and database.is_damage(error):
            self._damage = self._damage or str(error)
            with suppress(sqlite3.Error, OSError):
                self._replace_damaged()
        return Retry(f"outbox {self._path}: {error}", code="disk")

    def _replace_damaged(self) -> None:
        """What was handed out stays so. Raises sqlite3.Error, OSError: the next commit tries again."""
        if self._damage is None:
            return
        with suppress(sqlite3.Error):
            self._db.close()
        self._ballast.release()
        handed, known = self._handed, Known(self.account, frozenset(self._handed.landed))
        self._begin(opening.renew(self._path, self._new_epoch, known, self._damage))
        if self.account.epoch == known.account.epoch:
            self._handed = replace(handed, landed=set())
            self._forget_lost()

    def _is_mended(self, error: Exception) -> bool:
        """Whether a single unit was to blame, and is taken out."""
        if not isinstance(error, BadUnit):
            return False
        before = self.account
        try:
            self._rewrite(lambda account: mending.take_out(self._db, account, [error.key]))
        except sqlite3.Error as failure:
            self._roll_back()
            raise self._failure(failure) from failure
        self._forget_lost()
        carried = sum(state.queued for state in self.account.lanes)
        self._tell(opening.Damage(str(error), carried, mending.lost_records(before, self.account)))
        return True

    def _forget_lost(self) -> None:
        left = set(database.keys(self._db, 0, database.key(len(LANES), 0)))
        self._handed.out = {unit: count for unit, count in self._handed.out.items() if unit in left}

    def _rewrite(self, change: Callable[[Account], Account]) -> None:
        """One transaction of its own. Raises sqlite3.Error, ContractError."""
        self._db.execute("BEGIN IMMEDIATE")
        database.delete(self._db, list(self._handed.landed))
        account = change(self.account)
        database.write_account(self._db, account)
        self._db.execute("COMMIT")
        self._settle(account, [])

    def _relieve(self) -> bool:
        """Whether room was made on a full disk: that of the ballast, of which what waits gets a part and the log and the cleaning the rest; or, where
        that is used up, of what waits."""
        if self._ballast.is_laid:
            self._ballast.release()
            self._max_bytes = min(self._max_bytes, self.account.queued_bytes + self._settings.ballast_bytes // _PARTS)
        elif not self._clean(self._max_bytes - self._max_bytes // _CLEANED):
            return False
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        return True

    def _clean(self, max_bytes: int) -> bool:
        try:
            self._rewrite(lambda account: eviction.make_room(self._db, account, max_bytes, self._settings.shares, eviction.FULL_DISK))
        except (sqlite3.Error, ContractError):
            self._roll_back()
            return False
        self._max_bytes = max_bytes
        return True

    def _tend_ballast(self) -> None:
        """Laid again as soon as it can be; what waits may grow again once there is as much room beside it."""
        if self._ballast.is_laid and self._max_bytes == self._settings.max_bytes:
            return
        if (self._ballast.is_laid or self._ballast.lay()) and self._ballast.has_room():
            self._max_bytes = self._settings.max_bytes
