"""Small units made one, before they are first sent: messages are scarce, records are not."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from edge_agent.outbox import database, sealing
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import About, BadUnit
from edge_agent.outbox.lanes import LANES
from fleet_contract import batches, limits
from fleet_contract.errors import ContractError
from fleet_contract.messages import Batch

SAME_CLOCK_US = 500_000
"""What was dated by two clocks further apart is never in one unit."""
_SMALL_BYTES = sealing.MAX_DATA_BYTES // 4
"""A larger unit is worth its message, and is not written twice."""
_ENOUGH = limits.MAX_BATCH_RECORDS // 2
"""A unit of so many is let be until it is sent."""


def groups(units: Iterable[About]) -> Iterator[list[About]]:
    """Of units in order of their keys, those that can be one unit together."""
    group: list[About] = []
    for unit in units:
        if group and not _may_join(group, unit):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def merge(db: sqlite3.Connection, account: Account, group: Sequence[About], *, sent: bool = False) -> tuple[Account, Batch]:
    """Within a transaction. Raises sqlite3.Error."""
    batch = _joined([database.read(db, account.epoch, unit.key) for unit in group])
    database.delete(db, [unit.key for unit in group])
    database.insert(db, batch, group[0].offset_us, sent=sent)
    more_bytes = database.size_of(batch) - sum(unit.size for unit in group)
    number = database.lane_of(group[0].key)
    return account.with_lane(number, account.lanes[number].resized(more_bytes)), batch


def merge_from(db: sqlite3.Connection, account: Account, lane: int, first: int) -> tuple[Account, int]:
    """The units from the number `first` on, as far as they can be merged; and the number from which it is worth looking the next time."""
    found = list(groups(list(database.about(db, *database.span(lane, first)))))
    for group in found:
        if len(group) > 1:
            account, _ = merge(db, account, group)
    if not found:
        return account, first
    last = found[-1]
    return account, last[0].first if sum(unit.count for unit in last) < _ENOUGH else last[-1].last + 1


def _joined(parts: Sequence[Batch]) -> Batch:
    try:
        return sealing.joined(parts)
    except ContractError:
        for part in parts:
            _open(part)
        raise


def _open(part: Batch) -> None:
    try:
        batches.unpack(part)
    except ContractError as error:
        raise BadUnit(database.key(LANES.index(part.lane), part.first), str(error)) from error


def _may_join(group: Sequence[About], unit: About) -> bool:
    last, first = group[-1], group[0]
    return (
        not (last.sent or unit.sent)
        and max(last.size, unit.size) <= _SMALL_BYTES
        and unit.first == last.last + last.stride
        and (unit.stride, unit.boot, unit.clock) == (first.stride, first.boot, first.clock)
        and abs(unit.offset_us - first.offset_us) < SAME_CLOCK_US
        and sum(one.count for one in group) + unit.count <= limits.MAX_BATCH_RECORDS
        and sum(one.size for one in group) + unit.size <= sealing.MAX_DATA_BYTES
        and sum(one.length for one in group) + unit.length <= limits.MAX_BATCH_DATA_BYTES * 3 // 4
    )
