"""Units that are not what was written are taken out of the outbox, and counted; all else stays as it is."""

import sqlite3
from collections.abc import Collection

from edge_agent.outbox import database
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import BadUnit, Damaged
from edge_agent.outbox.lanes import LANES
from fleet_contract.messages import DAMAGED

_KEPT = 16
"""Units, for a person to look at, in a table beside the others."""


def take_out(db: sqlite3.Connection, account: Account, bad: Collection[int] = ()) -> Account:
    """Within a transaction: without the units whose row is wrong, or whose key is among `bad`. What is missing of what the account says counts as
    damaged. Raises sqlite3.Error: Damaged where there is more than it says, so that it is an old one."""
    counts, sizes, ends = [0] * len(LANES), [0] * len(LANES), [0] * len(LANES)
    found = []
    for row in db.execute(f"SELECT {database.ABOUT} FROM unit ORDER BY key"):
        try:
            unit = database.sound(row)
        except BadUnit as error:
            found.append(error.key)
            continue
        if unit.key in bad:
            found.append(unit.key)
            continue
        lane = database.lane_of(unit.key)
        if not ends[lane] <= unit.first <= unit.last < account.lanes[lane].produced:
            raise Damaged(f"unit {unit.key:#x} has numbers that are another's, or nobody's")
        counts[lane], sizes[lane], ends[lane] = counts[lane] + unit.count, sizes[lane] + unit.size, unit.last + 1
    _keep(db, found)
    database.delete(db, found)
    return _counted(account, counts, sizes)


def lost_records(before: Account, after: Account) -> int:
    return sum(new.dropped.get(DAMAGED, 0) - old.dropped.get(DAMAGED, 0) for old, new in zip(before.lanes, after.lanes, strict=True))


def _counted(account: Account, counts: list[int], sizes: list[int]) -> Account:
    for number, state in enumerate(account.lanes):
        if counts[number] > state.queued:
            raise Damaged(f"lane {LANES[number].value} holds {counts[number]} records, its account says {state.queued}")
        account = account.with_lane(number, state.evicted(state.queued - counts[number], state.queued_bytes - sizes[number], DAMAGED))
    return account


def _keep(db: sqlite3.Connection, units: list[int]) -> None:
    if not units:
        return
    db.execute("CREATE TABLE IF NOT EXISTS damaged AS SELECT * FROM unit WHERE 0")
    db.executemany("INSERT INTO damaged SELECT * FROM unit WHERE key=?", [(unit,) for unit in units[-_KEPT:]])
    db.execute("DELETE FROM damaged WHERE rowid <= (SELECT max(rowid) FROM damaged) - ?", (_KEPT,))
