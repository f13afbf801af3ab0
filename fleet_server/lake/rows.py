"""Events, sketch windows and samples: few, read one by one, and kept in tables of their own."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from fleet_contract import batches
from fleet_contract.batches import Rows
from fleet_contract.errors import ContractError
from fleet_contract.instants import moment
from fleet_contract.messages import Event, Lane, Record, Sample, SketchWindow
from fleet_server import storage
from fleet_server.domain.epochs import StreamKey
from fleet_server.domain.records import Malformed, read
from fleet_server.lake.inferences import Spoilt, spoil
from fleet_server.lake.streams import Fresh
from fleet_server.services import measurements
from fleet_server.tables.database import insert_new
from fleet_server.tables.event import Event as EventRow
from fleet_server.tables.sample import Sample as SampleRow
from fleet_server.tables.stream import MalformedRecord
from fleet_server.tables.window import Window

_TABLES: dict[Lane, Any] = {Lane.EVENTS: EventRow, Lane.SKETCHES: Window, Lane.SAMPLES: SampleRow}


@dataclass(frozen=True)
class Kept:
    """One record that is stored for the first time."""

    stream: StreamKey
    seq: int
    received_at: datetime
    record: Record


def open_all(fresh: Sequence[Fresh]) -> tuple[list[Kept], list[Spoilt]]:
    """Of batches of one lane that is not telemetry."""
    kept: list[Kept] = []
    spoilt: list[Spoilt] = []
    for each in fresh:
        try:
            content = batches.unpack(each.piece.batch)
        except ContractError as error:
            spoilt += spoil(each, error.code)
            continue
        if isinstance(content, Rows):
            for one in _open(each, content):
                (kept if isinstance(one, Kept) else spoilt).append(one)  # type: ignore[arg-type]
    return kept, spoilt


def write_samples(kept: Sequence[Kept], folder: Path) -> None:
    """Their bytes: a file without a row does no harm, a row without a file would. Raises OSError."""
    for each in kept:
        if isinstance(each.record, Sample):
            path = folder / hashlib.sha256(each.record.data).hexdigest()
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                storage.write_atomic(path, each.record.data)


def save(connection: Connection, lane: Lane, kept: Sequence[Kept], ids: Mapping[StreamKey, int]) -> None:
    """A number that is there already is left alone: that can only be where a hole was closed over it."""
    rows = [{"stream": ids[each.stream], "seq": each.seq, **_ROWS[lane](each.record, each.stream[0], each.received_at)} for each in kept]
    if rows:
        connection.execute(insert_new(connection, _TABLES[lane]), rows)
    if lane is Lane.EVENTS:
        for device, events in _by_device(kept).items():
            measurements.note(connection, device, events)


def save_spoilt(connection: Connection, spoilt: Sequence[Spoilt], ids: Mapping[StreamKey, int]) -> None:
    rows = [
        {
            "stream": ids[each.stream],
            "seq": each.seq,
            "count": each.count,
            "reason": each.reason,
            "received_at": moment(each.received_at_us),
        }
        for each in spoilt
    ]
    if rows:
        connection.execute(insert_new(connection, MalformedRecord), rows)


def _open(fresh: Fresh, content: Rows) -> Iterator[Kept | Spoilt]:
    piece, received_at = fresh.piece, moment(fresh.piece.received_at_us)
    for seq, wire in zip(piece.batch.sequences, content.records, strict=True):
        if fresh.numbers is not None and seq not in fresh.numbers:
            continue
        try:
            yield Kept(piece.stream, seq, received_at, read(wire, piece.batch.lane))
        except Malformed as error:
            yield Spoilt(piece.stream, seq, 1, error.reason, piece.received_at_us)


def _by_device(kept: Sequence[Kept]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for each in kept:
        if isinstance(each.record, Event):
            found.setdefault(each.stream[0], []).append(each.record)
    return found


def _event(event: Event, device: str, received_at: datetime) -> dict[str, Any]:
    return {"device": device, "at": event.at, "received_at": received_at, "kind": event.kind, "detail": event.detail}


def _window(window: SketchWindow, device: str, received_at: datetime) -> dict[str, Any]:
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


def _sample(sample: Sample, device: str, received_at: datetime) -> dict[str, Any]:
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
    Lane.EVENTS: _event,
    Lane.SKETCHES: _window,
    Lane.SAMPLES: _sample,
}
