"""The stored side of the ledger while a turn adds to it: what of each stream is stored already, and what a batch adds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select

from fleet_contract.messages import Lane
from fleet_server.domain.coverage import Coverage
from fleet_server.lake.opening import Piece, StreamKey
from fleet_server.tables import bulk
from fleet_server.tables.device import Device
from fleet_server.tables.stream import Stream

_STORED = ("coverage", "high", "stored", "malformed", "bytes")
MAX_RUNS_KEPT = 64
"""Of one stream, where the ledger has accounted for all below them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the stored side of a stream's row says."""

    coverage: Coverage = field(default_factory=Coverage)
    stored: int = 0
    malformed: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Fresh:
    """A batch with records that are not stored yet: all of them, or those `numbers`."""

    piece: Piece
    numbers: frozenset[int] | None = None

    @property
    def count(self) -> int:
        return self.piece.batch.count if self.numbers is None else len(self.numbers)


class Streams:
    """Of one turn."""

    def __init__(self, tasks: Mapping[str, str], known: Mapping[StreamKey, Stored]) -> None:
        self.tasks = tasks
        self._now = dict(known)
        self.changed: dict[StreamKey, Stored] = {}

    def add(self, piece: Piece) -> Fresh | None:
        """None where all of it is stored."""
        before = self._now.get(piece.stream) or Stored()
        run, fresh = piece.run, Fresh(piece)
        if before.coverage.overlaps(run):
            fresh = Fresh(piece, frozenset(before.coverage.missing(run)))
            if not fresh.numbers:
                return None
        size = len(piece.batch.data) * fresh.count // piece.batch.count
        after = Stored(before.coverage.plus(run), before.stored + fresh.count, before.malformed, before.bytes + size)
        self._now[piece.stream] = self.changed[piece.stream] = after
        return fresh

    def spoil(self, stream: StreamKey, count: int) -> None:
        """So many of those added could not be read."""
        before = self._now[stream]
        self._now[stream] = self.changed[stream] = replace(before, malformed=before.malformed + count)


def load(connection: Connection, devices: Collection[str]) -> Streams:
    """Of those devices that are enrolled; `tasks` names them."""
    tasks = {row.id: row.task for row in bulk.rows_of(connection, select(Device.id, Device.task), Device.id, devices)}
    columns = (Stream.device, Stream.epoch, Stream.lane, Stream.coverage, Stream.stored, Stream.malformed, Stream.bytes, Stream.settled)
    known = {}
    for row in bulk.rows_of(connection, select(*columns), Stream.device, devices):
        known[(row.device, row.epoch, row.lane)] = Stored(_collapsed(row.coverage, row.settled), row.stored, row.malformed, row.bytes)
    return Streams(tasks, known)


def save(connection: Connection, changed: Mapping[StreamKey, Stored]) -> None:
    """In the order of the keys: whoever writes many streams at once does, so that none waits for the other in a circle."""
    keys = sorted(changed)
    states = [changed[key] for key in keys]
    values = {
        "device": [device for device, _, _ in keys],
        "epoch": [epoch for _, epoch, _ in keys],
        "lane": [lane for _, _, lane in keys],
        "coverage": [state.coverage.dump() for state in states],
        "high": [state.coverage.end for state in states],
        "stored": [state.stored for state in states],
        "malformed": [state.malformed for state in states],
        "bytes": [state.bytes for state in states],
        **{name: [0] * len(keys) for name in ("produced", "acknowledged", "queued")},
        "dropped": ["{}"] * len(keys),
    }
    update = {name: f"excluded.{name}" for name in _STORED}
    bulk.upsert(connection, Stream, values, keys=("device", "epoch", "lane"), update=update)


def ids(connection: Connection, wanted: Iterable[StreamKey]) -> dict[StreamKey, int]:
    keys = set(wanted)
    columns = select(Stream.id, Stream.device, Stream.epoch, Stream.lane)
    rows = bulk.rows_of(connection, columns, Stream.device, {device for device, _, _ in keys})
    found = {(row.device, row.epoch, row.lane): row.id for row in rows}
    return {key: found[key] for key in keys}


def by_lane(fresh: Sequence[Fresh]) -> dict[Lane, list[Fresh]]:
    lanes: dict[Lane, list[Fresh]] = {}
    for each in fresh:
        lanes.setdefault(each.piece.batch.lane, []).append(each)
    return lanes


def _collapsed(kept: bytes, settled: int) -> Coverage:
    """Below `settled` the ledger accounts for every number: what arrives there was stored, or the device gave it up."""
    whole = Coverage.load(kept)
    return whole if len(whole.runs) <= MAX_RUNS_KEPT else whole.closed_below(settled)
