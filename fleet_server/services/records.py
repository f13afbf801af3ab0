"""Storing what devices recorded: each record once, whatever comes twice, and the ledger's counts with it in one transaction."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, insert, select, update

from fleet_contract import batches, columns, names
from fleet_contract.answers.detail import Detail
from fleet_contract.columns import ResultColumns
from fleet_contract.errors import BadName, ContractError
from fleet_contract.messages import Ack, Batch, Event, Lane, Record, Result, Sample, SketchWindow
from fleet_server import storage
from fleet_server.domain.records import MAX_COUNT, Malformed, check, read
from fleet_server.services import measurements, streams
from fleet_server.tables.database import upsert, writing
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event as EventRow
from fleet_server.tables.result import Result as ResultRow
from fleet_server.tables.result import Tally
from fleet_server.tables.sample import Sample as SampleRow
from fleet_server.tables.stream import MalformedRecord, Stream
from fleet_server.tables.window import Window

_TABLES: dict[Lane, Any] = {Lane.EVENTS: EventRow, Lane.SKETCHES: Window, Lane.TELEMETRY: ResultRow, Lane.SAMPLES: SampleRow}


@dataclass(frozen=True)
class Stored:
    """`acks` are to be sent now; `new` counts records stored for the first time, by lane; `rejected` whole batches without an Ack, by reason."""

    acks: list[tuple[str, Ack]]
    new: Counter[Lane] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Opened:
    """A batch with its records read: a Record, or why there is none."""

    device: str
    batch: Batch
    records: list[Record | Malformed]

    @property
    def end(self) -> int:
        return self.batch.first + len(self.records)

    @property
    def bytes_each(self) -> float:
        return len(self.batch.data) / len(self.records)


def store_batches(engine: Engine, arrived: Iterable[tuple[str, Batch]], received_at: datetime, *, samples: Path) -> list[tuple[str, Ack]]:
    """`store`, for callers who want the acknowledgements alone."""
    return store(engine, arrived, received_at, samples=samples).acks


def store(engine: Engine, arrived: Iterable[tuple[str, Batch]], received_at: datetime, *, samples: Path) -> Stored:
    """Store the batches of authenticated devices in one transaction; on return they are durable.

    A record that was stored before is left alone and acknowledged again. A malformed record is counted as such and acknowledged. A batch
    of a device that is not enrolled or is quarantined, with an illegal epoch or an impossible sequence number gets no Ack. Raises OSError and SQLAlchemyError:
    then nothing was stored. Sample bytes go to `samples` first: a file without a row does no harm, a row without a file would.
    """
    opened = [_open(device, batch) for device, batch in arrived]
    _write_samples(opened, samples)
    done = Stored([])
    with writing(engine) as connection:
        named = select(Device.id, Device.quarantined_at).where(Device.id.in_({each.device for each in opened}))
        known = {row.id: row.quarantined_at is not None for row in connection.execute(named)}
        for each in opened:
            reason = _why_not(each, known)
            if reason:
                done.rejected[reason] += 1
                continue
            done.new[each.batch.lane] += _store_one(connection, each, received_at)
            ack = Ack(epoch=each.batch.epoch, lane=each.batch.lane, ranges=[(each.batch.first, each.end - 1)])
            done.acks.append((each.device, ack))
    return done


def _open(device: str, batch: Batch) -> _Opened:
    try:
        content = batches.unpack(batch)
    except ContractError as error:
        return _Opened(device, batch, [Malformed(error.code)] * batch.count)
    if isinstance(content, ResultColumns):
        return _Opened(device, batch, [_check(result) for result in columns.to_results(content)])
    return _Opened(device, batch, [_read(wire, batch.lane) for wire in content.records])


def _check(result: Result) -> Record | Malformed:
    try:
        return check(result)
    except Malformed as error:
        return error


def _read(wire: bytes, lane: Lane) -> Record | Malformed:
    try:
        return read(wire, lane)
    except Malformed as error:
        return error


def _why_not(each: _Opened, known: Mapping[str, bool]) -> str | None:
    """`known` maps each enrolled device to whether it is quarantined."""
    if each.device not in known:
        return "unknown-device"
    if known[each.device]:
        return "quarantined"
    try:
        names.name(each.batch.epoch, "epoch")
    except BadName:
        return "bad-epoch"
    return None if each.batch.first >= 0 and each.end <= MAX_COUNT else "bad-sequence"


def _write_samples(opened: Sequence[_Opened], folder: Path) -> None:
    for each in opened:
        for record in each.records:
            if isinstance(record, Sample):
                path = folder / hashlib.sha256(record.data).hexdigest()
                if not path.exists():
                    folder.mkdir(parents=True, exist_ok=True)
                    storage.write_atomic(path, record.data)


def _store_one(connection: Connection, each: _Opened, received_at: datetime) -> int:
    stream = streams.lock(connection, each.device, each.batch.epoch, each.batch.lane)
    seen = _seen(connection, stream, each)
    fresh = [(each.batch.first + at, record) for at, record in enumerate(each.records) if each.batch.first + at not in seen]
    good = [(seq, record) for seq, record in fresh if not isinstance(record, Malformed)]
    bad = [(seq, record) for seq, record in fresh if isinstance(record, Malformed)]
    if good:
        make = _ROWS[each.batch.lane]
        rows = [{"stream": stream.id, "seq": seq, **make(record, each.device, received_at)} for seq, record in good]
        connection.execute(insert(_TABLES[each.batch.lane]), rows)
    if bad:
        rows = [{"stream": stream.id, "seq": seq, "reason": error.reason, "received_at": received_at} for seq, error in bad]
        connection.execute(insert(MalformedRecord), rows)
    if each.batch.lane is Lane.TELEMETRY:
        _tally(connection, each.device, (record for _, record in good if isinstance(record, Result)))
    if each.batch.lane is Lane.EVENTS:
        measurements.note(connection, each.device, (record for _, record in good if isinstance(record, Event)))
    if fresh:
        _count(connection, stream, each.end, len(fresh), len(bad), round(len(fresh) * each.bytes_each))
    return len(fresh)


def _seen(connection: Connection, stream: Row, each: _Opened) -> set[int]:
    """The batch's sequence numbers that are stored already. The usual batch is new as a whole and costs no query."""
    if each.batch.first >= stream.high:
        return set()
    found: set[int] = set()
    for table in (_TABLES[each.batch.lane], MalformedRecord):
        within = (table.stream == stream.id, table.seq >= each.batch.first, table.seq < each.end)
        found.update(connection.execute(select(table.seq).where(*within)).scalars())
    return found


def _count(connection: Connection, stream: Row, end: int, stored: int, malformed: int, size: int) -> None:
    connection.execute(
        update(Stream)
        .where(Stream.id == stream.id)
        .values(
            high=max(stream.high, end),
            stored=Stream.stored + stored,
            malformed=Stream.malformed + malformed,
            bytes=Stream.bytes + size,
        )
    )


def _tally(connection: Connection, device: str, results: Iterable[Result]) -> None:
    counts = Counter((result.bundle, result.label or "") for result in results)
    if counts:
        rows = [{"device": device, "bundle": bundle, "label": label, "count": n} for (bundle, label), n in sorted(counts.items())]
        add = upsert(connection, Tally, ["device", "bundle", "label"], {"count": lambda refused: Tally.count + refused.count})
        connection.execute(add, rows)


def _event_row(event: Event, device: str, received_at: datetime) -> dict[str, Any]:
    return {"device": device, "at": event.at, "received_at": received_at, "kind": event.kind, "detail": event.detail}


def _window_row(window: SketchWindow, device: str, received_at: datetime) -> dict[str, Any]:
    return {
        "device": device,
        "bundle": window.bundle,
        "start": window.start,
        "end": window.end,
        "received_at": received_at,
        "first_input": window.first_input,
        "inputs": window.inputs,
        "sketch": msgspec.msgpack.encode(window.sketch),
        "streak": 0,
        "features": [],
    }


def _result_row(result: Result, device: str, received_at: datetime) -> dict[str, Any]:
    return {
        "at": result.at,
        "bundle": result.bundle,
        "input_id": result.input_id,
        "label": result.label,
        "value": result.value,
        "latency_us": result.latency_us,
        "abstained": result.abstained is True,
        "detail": _json(result.detail),
    }


def _json(detail: Detail | msgspec.UnsetType) -> dict[str, Any] | None:
    """NaN and infinity become null: PostgreSQL takes no others."""
    return None if detail is msgspec.UNSET else msgspec.json.decode(msgspec.json.encode(detail))


def _sample_row(sample: Sample, device: str, received_at: datetime) -> dict[str, Any]:
    return {
        "device": device,
        "at": sample.at,
        "bundle": sample.bundle,
        "campaign": sample.campaign,
        "input_id": sample.input_id,
        "media_type": sample.media_type,
        "sha256": hashlib.sha256(sample.data).hexdigest(),
        "bytes": len(sample.data),
        "label": sample.label,
        "value": sample.value,
    }


_ROWS: dict[Lane, Callable[[Any, str, datetime], dict[str, Any]]] = {
    Lane.EVENTS: _event_row,
    Lane.SKETCHES: _window_row,
    Lane.TELEMETRY: _result_row,
    Lane.SAMPLES: _sample_row,
}
