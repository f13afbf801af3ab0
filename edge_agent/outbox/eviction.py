"""Makes room: what was never sent gives way, the oldest of the lanes above their shares, telemetry by every second record."""

import sqlite3
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

from edge_agent.outbox import database, quota, sealing
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import About, BadUnit
from edge_agent.outbox.settings import Shares
from fleet_contract.errors import ContractError

QUOTA = "quota"
THINNED = "thinned"
DISK_FULL = "disk-full"
_UNITS = 16


@dataclass(frozen=True)
class Reasons:
    thinned: str = THINNED
    whole: str = QUOTA


FULL_DISK = Reasons(DISK_FULL, DISK_FULL)


def make_room(db: sqlite3.Connection, account: Account, max_bytes: int, shares: Shares, reasons: Reasons = Reasons()) -> Account:
    """Within a transaction. What the server may hold stays, whatever it takes. Raises sqlite3.Error."""
    excess = quota.excess_bytes(account.lanes, max_bytes)
    if excess <= 0:
        return account
    for number, above in quota.giving_way(account.lanes, max_bytes, shares):
        aim = account.queued_bytes - min(excess, above)
        ease = _thin if quota.is_thinned(number) else _drop_oldest
        before = account.queued_bytes
        account = ease(db, account, number, aim, reasons)
        excess -= before - account.queued_bytes
        if excess <= 0:
            break
    return account


def _drop_oldest(db: sqlite3.Connection, account: Account, number: int, aim_bytes: int, reasons: Reasons) -> Account:
    while account.queued_bytes > aim_bytes and (units := _unsent(db, number)):
        for unit in units:
            if account.queued_bytes > aim_bytes:
                account = _drop(db, account, unit, reasons.whole)
    return account


def _thin(db: sqlite3.Connection, account: Account, number: int, aim_bytes: int, reasons: Reasons) -> Account:
    by_stride: Counter[int] = Counter()
    for unit in database.about(db, *database.span(number), only="AND sent=0"):
        by_stride[unit.stride] += unit.size
    oldest: defaultdict[int, deque[About]] = defaultdict(deque)
    while account.queued_bytes > aim_bytes and by_stride:
        stride = quota.stride_to_thin(by_stride)
        units = oldest[stride] = oldest[stride] or deque(_unsent(db, number, f"AND stride={stride:d}"))
        if not units:
            del by_stride[stride]
            continue
        unit, before = units.popleft(), account.queued_bytes
        account = _drop(db, account, unit, reasons.whole) if stride >= quota.MAX_STRIDE else _halve(db, account, unit, reasons.thinned)
        by_stride[stride] -= unit.size
        by_stride[2 * stride] += unit.size - (before - account.queued_bytes)
    return account


def _halve(db: sqlite3.Connection, account: Account, unit: About, reason: str) -> Account:
    number = database.lane_of(unit.key)
    try:
        thin = sealing.thinned(database.read(db, account.epoch, unit.key))
    except ContractError as error:
        raise BadUnit(unit.key, str(error)) from error
    database.delete(db, [unit.key])
    if thin is None:
        return account.with_lane(number, account.lanes[number].evicted(unit.count, unit.size, reason))
    database.insert(db, thin, unit.offset_us)
    return account.with_lane(number, account.lanes[number].evicted(unit.count - thin.count, unit.size - database.size_of(thin), reason))


def _drop(db: sqlite3.Connection, account: Account, unit: About, reason: str) -> Account:
    database.delete(db, [unit.key])
    number = database.lane_of(unit.key)
    return account.with_lane(number, account.lanes[number].evicted(unit.count, unit.size, reason))


def _unsent(db: sqlite3.Connection, number: int, only: str = "") -> list[About]:
    """The oldest few."""
    rows = database.about(db, *database.span(number), only=f"AND sent=0 {only}")
    return [unit for unit, _ in zip(rows, range(_UNITS), strict=False)]
