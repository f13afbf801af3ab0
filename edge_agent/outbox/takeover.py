"""An outbox of version 1, which had a row for each record, becomes one of today, with its epoch, numbers and notes."""

import json
import sqlite3
from collections.abc import Iterator

from edge_agent.outbox import database
from edge_agent.outbox.account import Account
from edge_agent.outbox.database import Damaged
from edge_agent.outbox.lanes import LANES, LaneState
from edge_agent.outbox.sealing import Packer
from fleet_contract import limits
from fleet_contract.batches import Packed
from fleet_contract.errors import ContractError
from fleet_contract.messages import Batch, Lane, Result, decode_record

VERSION = 1
_OLD_TABLES = ("record", "lane", "note")


def take_over(db: sqlite3.Connection) -> Account:
    """In one transaction. What was sent already stays marked so. No monotonic times are known of its records. Raises sqlite3.Error (Damaged)."""
    db.execute("BEGIN IMMEDIATE")
    notes = dict(db.execute("SELECT name, value FROM note").fetchall())
    account = Account(notes.pop("epoch", ""), notes=notes)
    database.create(db, account)
    packer = Packer()
    rows = db.execute("SELECT lane, produced, acknowledged, sent_below, dropped FROM lane ORDER BY lane").fetchall()
    if [row[0] for row in rows] != list(range(len(LANES))):
        raise Damaged("its lanes are not those of version 1")
    for number, produced, acknowledged, sent_below, dropped in rows:
        state = LaneState(produced, acknowledged, dropped=json.loads(dropped))
        for first, bodies in _runs(db, number, sent_below):
            for packed in _pack(packer, LANES[number], bodies):
                batch = Batch(account.epoch, LANES[number], first, packed.count, packed.codec, packed.length, packed.data, "")
                database.insert(db, batch, 0, sent=first < sent_below)
                state = state.added(packed.count, database.size_of(batch))
                first += packed.count
        account = account.with_lane(number, LaneState(produced, acknowledged, state.queued, state.queued_bytes, state.dropped))
    for table in _OLD_TABLES:
        db.execute(f"DROP TABLE {table}")
    database.write_account(db, account)
    db.execute("COMMIT")
    return account


def _runs(db: sqlite3.Connection, number: int, sent_below: int) -> Iterator[tuple[int, list[bytes]]]:
    """Records whose numbers follow one another, sent and unsent ones apart."""
    first, bodies = 0, []
    for unit, body in db.execute("SELECT id, body FROM record WHERE id >= ? AND id < ? ORDER BY id", database.span(number)):
        sequence = database.sequence_of(unit)
        if bodies and (sequence != first + len(bodies) or sequence == sent_below or len(bodies) == limits.MAX_BATCH_RECORDS):
            yield first, bodies
            bodies = []
        first = first if bodies else sequence
        bodies.append(body)
    if bodies:
        yield first, bodies


def _pack(packer: Packer, lane: Lane, bodies: list[bytes]) -> Iterator[Packed]:
    times = [0] * len(bodies)
    if lane is not Lane.TELEMETRY:
        return packer.rows(bodies, times)
    try:
        records = [decode_record(body) for body in bodies]
    except ContractError as error:
        raise Damaged(f"a record of version 1: {error}") from error
    return packer.results([record for record in records if isinstance(record, Result)], times, [len(body) for body in bodies])
