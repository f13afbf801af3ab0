"""One turn: segments of the inbox into files, then into the database in one transaction. Exactly once by the range of their ids: until the
transaction has moved the watermark nothing of the turn counts, and afterwards nobody reads these segments again."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from fleet_contract import limits
from fleet_contract.messages import Lane
from fleet_server.domain.twins import Memory
from fleet_server.inbox.port import Segment
from fleet_server.lake import catalogue, following, inferences, opening, parquet, rollups, rows, streams
from fleet_server.lake.inferences import Spoilt
from fleet_server.lake.opening import Piece
from fleet_server.lake.parquet import Made
from fleet_server.lake.rollups import Added
from fleet_server.lake.rows import Kept
from fleet_server.lake.streams import Fresh, Streams
from fleet_server.services import quarantine
from fleet_server.tables.database import reading, writing

log = logging.getLogger(__name__)

UNSTORABLE = "unstorable"
_CHUNK_BYTES = 64 * limits.MIB
"""Of batches once decompressed, held in memory at a time; each chunk makes files of its own."""


@dataclass(frozen=True)
class Lake:
    """Of the server whose home this is: files in the home, their catalogue and all else in the database."""

    home: Path
    engine: Engine

    @property
    def root(self) -> Path:
        return self.home / "lake"

    @property
    def samples(self) -> Path:
        return self.home / "samples"


@dataclass(frozen=True)
class Taken:
    """What a turn stored: `new` counts records stored for the first time by lane, malformed ones among them; `refused` messages that nobody can
    account for, by reason."""

    new: Counter[Lane] = field(default_factory=Counter)
    duplicates: int = 0
    malformed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    files: int = 0


@dataclass(frozen=True)
class _Prepared:
    """All that the transaction will write."""

    streams: Streams
    twins: dict[str, str]
    pieces: list[Piece]
    made: list[Made] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    kept: dict[Lane, list[Kept]] = field(default_factory=dict)
    spoilt: list[Spoilt] = field(default_factory=list)


def take(
    lake: Lake,
    segments: Sequence[Segment],
    after: int,
    now: datetime,
    *,
    twins: Memory,
    caught_up_at: datetime | None = None,
    suspects: frozenset[bytes] = frozenset(),
    rehearsal: bool = False,
) -> Taken:
    """Take in the segments that follow inbox id `after`. `caught_up_at` says that all that was committed before then is among them or was taken
    earlier. Batches whose data is among `suspects` count as malformed; a `rehearsal` ends before the transaction is committed.

    Raises OSError, SQLAlchemyError or Conflict: then nothing was stored, but files that nobody lists may lie there.
    """
    arrived, refused = opening.pieces(arrival for segment in segments for arrival in segment.arrivals)
    with reading(lake.engine) as connection:
        known = streams.load(connection, {piece.device for piece in arrived})
    pieces = [piece for piece in arrived if piece.device in known.tasks]
    refused["unknown-device"] += len(arrived) - len(pieces)
    fresh = [each for each in map(known.add, pieces) if each is not None]
    span = (after + 1, segments[-1].id) if segments else (after, after)
    accused = {piece.device: why for piece in pieces if (why := twins.see(piece.device, piece.batch))}
    bad = [each for each in fresh if each.piece.batch.data in suspects] if suspects else []
    prepared = _Prepared(known, accused, [piece for piece in pieces if piece.batch.data not in suspects] if suspects else pieces)
    prepared = _prepare(lake, known, [each for each in fresh if each not in bad], span, prepared)
    _spoil(prepared, [spoilt for each in bad for spoilt in inferences.spoil(each, UNSTORABLE)])
    with writing(lake.engine) as connection:
        catalogue.advance(connection, after, span[1], caught_up_at)
        _save(connection, prepared, now)
        if rehearsal:
            connection.rollback()
    new = Counter({lane: sum(each.count for each in mine) for lane, mine in streams.by_lane(fresh).items()})
    duplicates = sum(piece.batch.count for piece in pieces) - new.total()
    return Taken(new, duplicates, sum(each.count for each in prepared.spoilt), +refused, len(prepared.made))


def _prepare(lake: Lake, known: Streams, fresh: Sequence[Fresh], span: tuple[int, int], prepared: _Prepared) -> _Prepared:
    lanes = streams.by_lane(fresh)
    for part, chunk in enumerate(_chunks(lanes.pop(Lane.TELEMETRY, []))):
        gathered, spoilt = inferences.gather(chunk)
        _spoil(prepared, spoilt)
        if gathered is not None and gathered.keep.any():
            prepared.made.extend(parquet.write(lake.root, gathered, known.tasks, span, part))
            prepared.added.append(rollups.of(gathered))
    for lane, mine in lanes.items():
        prepared.kept[lane], spoilt = rows.open_all(mine)
        _spoil(prepared, spoilt)
        rows.write_samples(prepared.kept[lane], lake.samples)
    return prepared


def _spoil(prepared: _Prepared, spoilt: Sequence[Spoilt]) -> None:
    prepared.spoilt.extend(spoilt)
    for each in spoilt:
        prepared.streams.spoil(each.stream, each.count)


def _save(connection: Connection, prepared: _Prepared, now: datetime) -> None:
    excessive = prepared.streams.excessive
    quarantine.hold(connection, prepared.twins.keys() | excessive)
    streams.save(connection, prepared.streams.changed)
    catalogue.add(connection, prepared.made, now)
    for added in prepared.added:
        rollups.save(connection, added, prepared.streams.tasks)
    named = [each.stream for each in prepared.spoilt] + [each.stream for kept in prepared.kept.values() for each in kept]
    ids = streams.ids(connection, named)
    for lane, kept in prepared.kept.items():
        rows.save(connection, lane, kept, ids)
    rows.save_spoilt(connection, prepared.spoilt, ids)
    following.save(connection, prepared.pieces, now)
    for device, why in prepared.twins.items():
        quarantine.impose_twin(connection, device, why, now)
    for device in excessive:
        quarantine.impose_epochs(connection, device, now)


def _chunks(fresh: Sequence[Fresh]) -> Iterator[list[Fresh]]:
    chunk: list[Fresh] = []
    size = 0
    for each in fresh:
        if chunk and size + each.piece.batch.length > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += each.piece.batch.length
    if chunk:
        yield chunk
