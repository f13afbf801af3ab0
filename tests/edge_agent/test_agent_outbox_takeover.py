"""An outbox of version 1 is taken over with its epoch, its numbers, its records and its notes."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fleet_contract.messages import Event, Lane, LaneLedger, Record, Result, encode_record
from tests.fakes.agent_outbox import Clocks, open_outbox, records_in

AT = Clocks().now.at
SCHEMA = """
CREATE TABLE record (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE lane (lane INTEGER PRIMARY KEY, produced INTEGER NOT NULL, acknowledged INTEGER NOT NULL, queued INTEGER NOT NULL,
    queued_bytes INTEGER NOT NULL, sent_below INTEGER NOT NULL, dropped TEXT NOT NULL);
CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version=1;
"""
RESULTS = [Result(at=AT, bundle="b" * 64, input_id=str(number), label="1", value=0.5, latency_us=10) for number in range(8)]
EVENT = Event(at=AT, kind="test")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Of ten results the first two are acknowledged and the fifth was dropped; those below the sixth were sent. One event of one."""
    path = tmp_path / "outbox.db"
    numbers = [2, 3, 5, 6, 7, 8, 9]
    records: list[tuple[int, Record]] = [(2 << 48 | number, RESULTS[at]) for at, number in enumerate(numbers)]
    lanes = [(0, 1, 0, 1, 99, 0, {}), (1, 0, 0, 0, 0, 0, {}), (2, 10, 2, 7, 999, 6, {"quota": 1}), (3, 0, 0, 0, 0, 0, {})]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(SCHEMA)
        db.executemany("INSERT INTO lane VALUES (?, ?, ?, ?, ?, ?, ?)", [(*numbers, json.dumps(dropped)) for *numbers, dropped in lanes])
        db.executemany("INSERT INTO record VALUES (?, ?)", [(unit, encode_record(record)) for unit, record in [(0, EVENT), *records]])
        db.executemany("INSERT INTO note VALUES (?, ?)", [("epoch", "old-epoch"), ("cursor", "frame-9"), ("mark:campaign", "c1")])
    return path


def test_everything_is_there(old: Path) -> None:
    with closing(open_outbox(old)) as outbox:
        assert (outbox.epoch, outbox.cursor(), outbox.mark("campaign")) == ("old-epoch", "frame-9", "c1")
        assert outbox.ledger()[Lane.TELEMETRY] == LaneLedger(produced=10, acknowledged=2, queued=7, dropped={"quota": 1}, oldest=2)
        found = outbox.batches(10)
        assert [(batch.lane, list(batch.sequences)) for batch in found] == [
            (Lane.EVENTS, [0]),
            (Lane.TELEMETRY, [2, 3]),
            (Lane.TELEMETRY, [5]),
            (Lane.TELEMETRY, [6, 7, 8, 9]),
        ]
        assert records_in(found) == [EVENT, *RESULTS[:7]]
        outbox.append([RESULTS[7]])
        assert [batch.first for batch in outbox.batches(10)] == [10]


def test_it_is_taken_over_once(old: Path) -> None:
    open_outbox(old).close()
    with closing(open_outbox(old)) as outbox:
        assert (outbox.epoch, outbox.ledger()[Lane.TELEMETRY].queued) == ("old-epoch", 7)


def test_a_damaged_one_is_set_aside(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("UPDATE record SET body = x'00' WHERE id > 0")
    with closing(open_outbox(old)) as outbox:
        assert [event.kind for event in records_in(outbox.batches(10))] == ["outbox.reset"]
    assert old.with_name("outbox.damaged-1").exists()
