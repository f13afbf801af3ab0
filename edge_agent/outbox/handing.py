"""Which units go to the server next."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from edge_agent import dating
from edge_agent.outbox import database, merging
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import About, BadUnit
from edge_agent.outbox.lanes import LANES
from edge_agent.ports import Reading
from fleet_contract.errors import ContractError
from fleet_contract.messages import Batch, Lane


@dataclass
class Handed:
    """The units that went out since the last rewind, and how many records each has; those that the server acknowledged since the last commit
    (`landed`); and the first fresh number of each lane."""

    fresh_from: list[int]
    out: dict[int, int] = field(default_factory=dict)
    landed: set[int] = field(default_factory=set)

    def rewind(self, account: Account) -> None:
        self.out.clear()
        self.fresh_from = [state.produced for state in account.lanes]

    def is_all_out(self, account: Account, lanes: Collection[Lane]) -> bool:
        """Whether nothing of these lanes waits to be handed out."""
        out = [0] * len(LANES)
        for unit, count in list(self.out.items()):
            out[database.lane_of(unit)] += count
        return all(out[number] >= account.lanes[number].queued for number, lane in enumerate(LANES) if lane in lanes)


@dataclass(frozen=True)
class Wanted:
    """See ports.Store.batches."""

    max_batches: int
    fresh: bool
    lanes: Collection[Lane]


def hand_out(db: sqlite3.Connection, account: Account, handed: Handed, reading: Reading, wanted: Wanted) -> tuple[Account, list[Batch]]:
    """Within a transaction, which makes it true that they were sent, before they are. Raises sqlite3.Error."""
    found: list[Batch] = []
    for number, lane in enumerate(LANES):
        if lane not in wanted.lanes:
            continue
        first = handed.fresh_from[number] if wanted.fresh and lane is not Lane.EVENTS else 0
        for group in list(islice(merging.groups(_waiting(db, handed, number, first)), wanted.max_batches - len(found))):
            account, batch = _seal(db, account, group, reading)
            found.append(batch)
    return account, found


def _waiting(db: sqlite3.Connection, handed: Handed, number: int, first: int) -> Iterator[About]:
    for unit in database.about(db, *database.span(number, first)):
        if unit.key not in handed.out and unit.key not in handed.landed:
            yield unit


def _seal(db: sqlite3.Connection, account: Account, group: Sequence[About], reading: Reading) -> tuple[Account, Batch]:
    unit = group[0]
    if unit.sent:
        return account, database.read(db, account.epoch, unit.key)
    if unit.clock == "untrusted" and reading.state == "trusted" and unit.boot == reading.boot:
        return _redate(db, account, group, reading)
    if len(group) > 1:
        return merging.merge(db, account, group, sent=True)
    database.mark_sent(db, unit)
    return account, database.read(db, account.epoch, unit.key)


def _redate(db: sqlite3.Connection, account: Account, group: Sequence[About], reading: Reading) -> tuple[Account, Batch]:
    """Their own clock has become right since: they are dated by what it says now."""
    number, unit = database.lane_of(group[0].key), group[0]
    account, made = merging.merge(db, account, group)
    try:
        batch = dating.redate(made, unit.offset_us, reading.offset_us)
    except ContractError as error:
        raise BadUnit(unit.key, str(error)) from error
    database.delete(db, [unit.key])
    database.insert(db, batch, reading.offset_us, sent=True)
    more_bytes = database.size_of(batch) - database.size_of(made)
    return account.with_lane(number, account.lanes[number].resized(more_bytes)), batch
