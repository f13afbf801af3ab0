"""Records that somebody follows: when they came, and when they were stored."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, update

from fleet_contract import messages
from fleet_contract.instants import moment
from fleet_server.domain.records import YEARS
from fleet_server.lake.opening import Piece
from fleet_server.services import traces
from fleet_server.tables.database import insert_new
from fleet_server.tables.trace import Trace


def save(connection: Connection, pieces: Sequence[Piece], now: datetime) -> None:
    """Complete the traces that were asked for, and those that a caller of the device began. No device has a say in another's, and what tells of times
    that no database has is let go."""
    followed = [(piece, trace) for piece in pieces if (trace := piece.batch.trace) is not msgspec.UNSET and _is_storable(trace)]
    for piece, trace in followed:
        connection.execute(insert_new(connection, Trace), {"id": trace.id, "device": piece.device, "parent": trace.parent})
        mine = (Trace.id == trace.id, Trace.device == piece.device, Trace.compacted_at.is_(None))
        connection.execute(update(Trace).where(*mine).values(**_told(piece, trace), compacted_at=now))
    if followed:
        traces.prune(connection)


def _is_storable(trace: messages.Trace) -> bool:
    return all(at.year in YEARS for at in (trace.recorded_at, trace.committed_at, trace.sent_at))


def _told(piece: Piece, trace: messages.Trace) -> dict[str, object]:
    return {
        "epoch": piece.batch.epoch,
        "lane": piece.batch.lane.value,
        "sequence": trace.sequence,
        "latency_us": trace.latency_us,
        "recorded_at": trace.recorded_at,
        "committed_at": trace.committed_at,
        "sent_at": trace.sent_at,
        "received_at": moment(piece.received_at_us),
    }
