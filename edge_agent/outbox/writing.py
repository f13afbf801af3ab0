"""Entries become units: what came together and was dated by one clock is one unit, however many calls it took."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from edge_agent.outbox import database
from edge_agent.outbox.account import Account
from edge_agent.outbox.entries import MALFORMED, Entry, Traced
from edge_agent.outbox.lanes import LANES
from edge_agent.outbox.merging import SAME_CLOCK_US
from edge_agent.outbox.sealing import Packer
from edge_agent.ports import Reading
from fleet_contract.batches import Packed
from fleet_contract.messages import Batch, Lane

_TELEMETRY = LANES.index(Lane.TELEMETRY)


@dataclass(frozen=True)
class Parcel:
    """Units of one lane in the making, under the clock of `reading`; `traced` are those of its records that are followed, by their place."""

    lane: int
    reading: Reading
    units: list[Packed]
    traced: dict[int, Traced] = field(default_factory=dict)


def pack(entries: Sequence[Entry], packer: Packer) -> tuple[list[Entry], list[Parcel]]:
    """The entries, and their units; where one cannot be packed (no UTF-8, a number out of range), its records are among its dropped ones instead.
    No disk is needed for this, nor any lock."""
    try:
        return list(entries), _parcels(entries, packer)
    except (ValueError, OverflowError):
        sound = [_sound(entry, packer) for entry in entries]
        return sound, _parcels(sound, packer)


def _sound(entry: Entry, packer: Packer) -> Entry:
    try:
        _parcels([entry], packer)
    except (ValueError, OverflowError):
        lost = {(_TELEMETRY, MALFORMED): len(entry.results)} | {(lane, MALFORMED): len(rows) for lane, (rows, _) in entry.rows.items()}
        return replace(entry, results=[], results_us=[], sizes=[], rows={}, dropped={**entry.dropped, **lost})
    return entry


def _parcels(entries: Sequence[Entry], packer: Packer) -> list[Parcel]:
    parcels = []
    for run in _runs(entries):
        reading = run[0].reading
        results = [result for entry in run for result in entry.results]
        if results:
            times = [at for entry in run for at in entry.results_us]
            units = list(packer.results(results, times, [size for entry in run for size in entry.sizes]))
            parcels.append(Parcel(_TELEMETRY, reading, units, dict(_traced(run))))
        for lane in sorted({lane for entry in run for lane in entry.rows}):
            rows = [entry.rows[lane] for entry in run if lane in entry.rows]
            units = list(packer.rows([wire for wires, _ in rows for wire in wires], [at for _, times in rows for at in times]))
            parcels.append(Parcel(lane, reading, units))
    return parcels


def write(
    db: sqlite3.Connection, account: Account, entries: Iterable[Entry], parcels: Iterable[Parcel]
) -> tuple[Account, dict[int, Traced], list[int]]:
    """Within a transaction: the account behind them, the followed records by their numbers, and how many units each lane got. Raises sqlite3.Error."""
    traced: dict[int, Traced] = {}
    units = [0] * len(LANES)
    for parcel in parcels:
        state = account.lanes[parcel.lane]
        traced |= {state.produced + place: one for place, one in parcel.traced.items()}
        for packed in parcel.units:
            batch = _batch(account.epoch, parcel, state.produced, packed)
            database.insert(db, batch, parcel.reading.offset_us)
            state = state.added(packed.count, database.size_of(batch))
        units[parcel.lane] += len(parcel.units)
        account = account.with_lane(parcel.lane, state)
    for entry in entries:
        account = replace(account, notes={**account.notes, **entry.notes}, record_bytes=account.record_bytes + entry.record_bytes)
        for (lane, reason), count in entry.dropped.items():
            account = account.with_lane(lane, account.lanes[lane].refused(reason, count))
    return account, traced, units


def _batch(epoch: str, parcel: Parcel, first: int, packed: Packed) -> Batch:
    reading = parcel.reading
    return Batch(epoch, LANES[parcel.lane], first, packed.count, packed.codec, packed.length, packed.data, reading.boot, reading.state)


def _runs(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    run: list[Entry] = []
    for entry in entries:
        if run and not _is_same_clock(run[0].reading, entry.reading):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def _is_same_clock(one: Reading, other: Reading) -> bool:
    return (one.boot, one.state) == (other.boot, other.state) and abs(one.offset_us - other.offset_us) < SAME_CLOCK_US


def _traced(run: Sequence[Entry]) -> Iterator[tuple[int, Traced]]:
    place = 0
    for entry in run:
        if entry.follow is not None and entry.results:
            yield place, Traced(entry.follow, entry.reading.at, entry.reading.at, entry.results[0].latency_us)
        place += len(entry.results)
