"""How many records a second each contender makes durable, reads and forgets, and what it writes to the disk for them."""

import importlib.util
import itertools
import os
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import readings
from edge_agent.outbox.store import Outbox
from edge_agent.outbox.wear import Meter
from fleet_contract.messages import Result, encode_record

RECORD_BYTES = 500
GROUP = 100
_OUTBOX = "outbox, 100 a call"
_WAITING = "outbox, 100 a call, each waited for"
_SINGLE = "outbox, one a call, each waited for"
_RAW = "raw append, fdatasync per 100"
_INSERT = "SQLite, one INSERT a transaction"
_QUEUE = "persist-queue"
_RECORDS = {_OUTBOX: 40_000, _WAITING: 10_000, _SINGLE: 500, _RAW: 40_000, _INSERT: 1_000, _QUEUE: 300}


@dataclass(frozen=True)
class Figures:
    table: list[tuple[str, ...]]
    times_insert: float
    share_of_raw: float
    written: float


@dataclass(frozen=True)
class _Turn:
    records_per_s: float
    written: float
    """Bytes written to the disk for each byte of the records."""


def measure(folder: Path, rounds: int) -> Figures:
    results = list(itertools.islice(_results(random.Random(1)), max(_RECORDS.values())))
    wires = [encode_record(result) for result in results]
    contenders: dict[str, Callable[[Path], _Turn]] = {
        _OUTBOX: lambda path: _submit(path, results[: _RECORDS[_OUTBOX]]),
        _WAITING: lambda path: _append(path, results[: _RECORDS[_WAITING]], GROUP),
        _SINGLE: lambda path: _append(path, results[: _RECORDS[_SINGLE]], 1),
        _RAW: lambda path: _raw(path, wires[: _RECORDS[_RAW]]),
        _INSERT: lambda path: _insert(path, wires[: _RECORDS[_INSERT]]),
    }
    if importlib.util.find_spec("persistqueue"):
        contenders[_QUEUE] = lambda path: _queue(path, wires[: _RECORDS[_QUEUE]])
    turns = _interleave(folder, contenders, rounds)
    reads, forgets = zip(*[_drain(folder / f"drain-{number}", results) for number in range(min(rounds, 3))], strict=True)
    drained = [_line("outbox, read in batches", reads, ""), _line("outbox, read, acknowledged and forgotten", forgets, "")]
    table = [("", "records/s", "of raw", "bytes written a record byte"), *_lines(turns), *drained]
    return Figures(table, _ratio(turns, _OUTBOX, _INSERT), _ratio(turns, _OUTBOX, _RAW), _median_written(turns[_OUTBOX]))


def _interleave(folder: Path, contenders: Mapping[str, Callable[[Path], _Turn]], rounds: int) -> dict[str, list[_Turn]]:
    """After one round that does not count."""
    turns: dict[str, list[_Turn]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        order = list(contenders.items())
        for place, (name, run) in enumerate(order if number % 2 else reversed(order)):
            at = folder / f"{number}-{place}"
            at.mkdir()
            turn = run(at)
            if number:
                turns[name].append(turn)
    return turns


def _results(chance: random.Random) -> Iterator[Result]:
    """Of RECORD_BYTES, encoded: hexadecimal input ids that no compression makes shorter than half."""
    at = datetime.now(UTC)
    for number in itertools.count():
        made = Result(
            at + timedelta(milliseconds=number), "b" * 64, "", chance.choice(("good", "bad")), chance.random(), chance.randrange(10_000)
        )
        room = RECORD_BYTES - len(encode_record(made)) - 2
        yield Result(made.at, made.bundle, f"{chance.getrandbits(4 * room):0{room}x}", made.label, made.value, made.latency_us)


def _open(path: Path) -> Outbox:
    return Outbox(path / "outbox.db", new_epoch=lambda: "bench", read=readings.read)


def _submit(path: Path, results: list[Result]) -> _Turn:
    with closing(_open(path)) as outbox:
        begun_s = time.perf_counter()
        for start in range(0, len(results), GROUP):
            group = results[start : start + GROUP]
            while not outbox.submit(group):
                time.sleep(0.001)
        outbox.append([])
        return _of_outbox(outbox, len(results), begun_s)


def _append(path: Path, results: list[Result], size: int) -> _Turn:
    with closing(_open(path)) as outbox:
        begun_s = time.perf_counter()
        for start in range(0, len(results), size):
            outbox.append(results[start : start + size])
        return _of_outbox(outbox, len(results), begun_s)


def _of_outbox(outbox: Outbox, records: int, begun_s: float) -> _Turn:
    spent_s = time.perf_counter() - begun_s
    outbox.append([], cursor="what was written by now is counted with the next commit")
    return _Turn(records / spent_s, outbox.disk().written_bytes / (records * RECORD_BYTES))


def _raw(path: Path, wires: list[bytes]) -> _Turn:
    meter, begun_s = Meter(), time.perf_counter()
    handle = os.open(path / "records", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for start in range(0, len(wires), GROUP):
            os.write(handle, b"".join(wires[start : start + GROUP]))
            os.fdatasync(handle)
    finally:
        os.close(handle)
    return _of_peer(meter, len(wires), begun_s)


def _insert(path: Path, wires: list[bytes]) -> _Turn:
    with closing(sqlite3.connect(path / "records.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        meter, begun_s = Meter(), time.perf_counter()
        for wire in wires:
            db.execute("INSERT INTO record (body) VALUES (?)", (wire,))
        return _of_peer(meter, len(wires), begun_s)


def _queue(path: Path, wires: list[bytes]) -> _Turn:
    import persistqueue

    queue = persistqueue.SQLiteQueue(str(path), auto_commit=True)
    meter, begun_s = Meter(), time.perf_counter()
    for wire in wires:
        queue.put(wire)
    turn = _of_peer(meter, len(wires), begun_s)
    queue.close()
    return turn


def _of_peer(meter: Meter, records: int, begun_s: float) -> _Turn:
    return _Turn(records / (time.perf_counter() - begun_s), meter.since_last() / (records * RECORD_BYTES))


def _drain(path: Path, results: list[Result]) -> tuple[float, float]:
    """Records a second that are handed out sealed; and that are handed out, acknowledged and forgotten durably."""
    path.mkdir()
    with closing(_open(path)) as outbox:
        for start in range(0, len(results), 10 * GROUP):
            outbox.append(results[start : start + 10 * GROUP])
        while outbox.batches(8):
            pass
        begun_s = time.perf_counter()
        outbox.rewind()
        while outbox.batches(8):
            pass
        read_s = time.perf_counter() - begun_s
        outbox.rewind()
        begun_s = time.perf_counter()
        while found := outbox.batches(8):
            for batch in found:
                outbox.acknowledge(batch.lane, [(batch.first, batch.last)])
        outbox.append([], cursor="and what was forgotten is committed")
        return len(results) / read_s, len(results) / (time.perf_counter() - begun_s)


def _lines(turns: Mapping[str, list[_Turn]]) -> Iterator[tuple[str, ...]]:
    for name, mine in turns.items():
        written = f"{_median_written(mine):.2f}"
        yield _line(name, [turn.records_per_s for turn in mine], f"{_ratio(turns, name, _RAW):.2f}", written)


def _line(name: str, records_per_s: tuple[float, ...] | list[float], of_raw: str, written: str = "") -> tuple[str, ...]:
    return name, f"{statistics.median(records_per_s):,.0f}", of_raw, written


def _median_written(turns: list[_Turn]) -> float:
    return round(statistics.median(turn.written for turn in turns), 2)


def _ratio(turns: Mapping[str, list[_Turn]], name: str, limit: str) -> float:
    return round(statistics.median(a.records_per_s / b.records_per_s for a, b in zip(turns[name], turns[limit], strict=True)), 2)
