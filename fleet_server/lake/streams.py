"""The stored side of the ledger while a turn adds to it: what of each stream is stored already, and what a batch adds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import Connection, select

from fleet_contract.messages import Lane
from fleet_server.domain.coverage import Coverage, Run
from fleet_server.domain.epochs import StreamKey, excessive
from fleet_server.lake.opening import Piece
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


class Fresh(msgspec.Struct, frozen=True):
    """A batch with records that are not stored yet: all of them, or those `numbers`."""

    piece: Piece
    numbers: frozenset[int] | None = None

    @property
    def count(self) -> int:
        return self.piece.batch.count if self.numbers is None else len(self.numbers)


class _Growing:
    """A stream while batches come. Those that go on right behind its highest number, as nearly all do, are put into the coverage together: they are
    the numbers `_start`, `_start + _stride`, ... below `_next`."""

    __slots__ = ("_bytes", "_coverage", "_next", "_start", "_stored", "_stride", "grew", "malformed")

    def __init__(self, before: Stored) -> None:
        self._stored, self._bytes, self.malformed, self.grew = before.stored, before.bytes, before.malformed, False
        self._cover(before.coverage)

    def add(self, piece: Piece) -> Fresh | None:
        batch, fresh = piece.batch, Fresh(piece)
        if batch.first == self._next and batch.stride == self._stride:
            self._next += batch.count * batch.stride
        else:
            coverage, run = self._joined(), piece.run
            if coverage.overlaps(run):
                fresh = Fresh(piece, frozenset(coverage.missing(run)))
                if not fresh.numbers:
                    return None
            self._cover(coverage.plus(run))
        self.grew = True
        self._stored += fresh.count
        self._bytes += len(batch.data) * fresh.count // batch.count
        return fresh

    def stored(self) -> Stored:
        return Stored(self._joined(), self._stored, self.malformed, self._bytes)

    def _cover(self, coverage: Coverage) -> None:
        self._coverage = coverage
        newest = coverage.runs[-1] if coverage.runs else None
        self._stride = newest.stride if newest else 1
        self._start = self._next = newest.last + newest.stride if newest else 0

    def _joined(self) -> Coverage:
        if self._next > self._start:
            self._cover(self._coverage.plus(Run(self._start, self._next - self._stride, self._stride)))
        return self._coverage


class Streams:
    """Of one turn."""

    def __init__(self, tasks: Mapping[str, str], known: Mapping[StreamKey, Stored]) -> None:
        self.tasks = tasks
        self._known = known
        self._growing: dict[StreamKey, _Growing] = {}

    @property
    def changed(self) -> dict[StreamKey, Stored]:
        return {stream: growing.stored() for stream, growing in self._growing.items() if growing.grew}

    @property
    def excessive(self) -> set[str]:
        """Devices that now have begun too many epochs."""
        return excessive(self._known.keys(), self._growing.keys())

    def add(self, piece: Piece) -> Fresh | None:
        """None where all of it is stored."""
        growing = self._growing.get(piece.stream)
        if growing is None:
            growing = self._growing[piece.stream] = _Growing(self._known.get(piece.stream) or Stored())
        return growing.add(piece)

    def spoil(self, stream: StreamKey, count: int) -> None:
        """So many of those added could not be read."""
        self._growing[stream].malformed += count


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
