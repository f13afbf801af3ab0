"""The ledger's rows: one per device, epoch and lane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, String, cast, select, update

from fleet_contract.messages import Lane, LaneLedger
from fleet_server.domain import ledger
from fleet_server.domain.epochs import excessive
from fleet_server.domain.statuses import is_news, reported
from fleet_server.tables.bulk import instants, rows_of, upsert
from fleet_server.tables.database import reading
from fleet_server.tables.device import Device
from fleet_server.tables.stream import Stream

_KEYS = ("device", "epoch", "lane")
_SAID = ("produced", "acknowledged", "queued", "dropped", "oldest")
_JUDGED = ("reported_at", "due", "seen_high", "beyond")
_NOTHING_STORED = {"high": 0, "stored": 0, "malformed": 0, "bytes": 0, "coverage": b""}
_REPORTED = (
    *(getattr(Stream, name) for name in (*_KEYS, "high", "seen_high", "produced", "acknowledged", "queued", "oldest")),
    cast(Stream.dropped, String).label("dropped"),
    Stream.reported_at.is_not(None).label("is_reported"),
)
"""`dropped` as the text that it is kept as: it is only compared."""


@dataclass(frozen=True)
class LedgerLine:
    """One lane of one epoch of one device; see domain.ledger.Balance for the last three."""

    device: str
    epoch: str
    lane: str
    produced: int
    acknowledged: int
    queued: int
    dropped: dict[str, int]
    stored: int
    excused: int
    malformed: int
    bytes: int
    reported_at: datetime | None
    difference: int
    lost: int
    balanced: bool


def report(connection: Connection, said: Sequence[tuple[str, str, Mapping[Lane, LaneLedger], datetime]]) -> set[str]:
    """Write down what devices, whose rows this transaction holds, say of their own lanes: (device, epoch, by lane, when it came). What says nothing
    new is not written. Returns the devices that have begun too many epochs with this."""
    wanted = {(device, epoch, lane.value): (reported(mine), at) for device, epoch, lanes, at in said for lane, mine in lanes.items()}
    if not wanted:
        return set()
    known = rows_of(connection, select(*_REPORTED), Stream.device, {device for device, _, _ in wanted})
    rows = {(row.device, row.epoch, row.lane): row for row in known}
    changes = [_change(key, rows.get(key), *wanted[key]) for key in sorted(wanted)]
    if news := [change for change in changes if change]:
        columns = {name: [each[name] for each in news] for name in news[0]}
        columns["reported_at"] = instants(connection, columns["reported_at"])
        update = {name: f"excluded.{name}" for name in (*_SAID, *_JUDGED)}
        upsert(connection, Stream, columns, keys=_KEYS, update=update)
    return excessive(rows.keys(), wanted.keys())


def abandon(connection: Connection, devices: Sequence[str], at: datetime) -> None:
    """These have begun a new epoch: of those before nobody holds anything any more, and what was queued has come, or is missing."""
    current = select(Device.epoch).where(Device.id == Stream.device).scalar_subquery()
    held = select(Stream.id).where(Stream.queued > 0, Stream.epoch != current).order_by(*(getattr(Stream, name) for name in _KEYS))
    ids = [row.id for row in rows_of(connection, held.with_for_update(key_share=True), Stream.device, devices)]
    gone = {"acknowledged": Stream.acknowledged + Stream.queued, "queued": 0, "oldest": None, "reported_at": at, "due": True}
    connection.execute(update(Stream).where(Stream.id.in_(ids)).values(gone))


def _change(key: tuple[str, str, str], row: Row | None, said: dict[str, Any], at: datetime) -> dict[str, Any] | None:
    """The stream's row as it shall be; what is stored of it is only told for a new one."""
    if row is not None and row.is_reported and not is_news(said, row):
        return None
    high, seen_high = (0, 0) if row is None else (row.high, row.seen_high)
    judged = {"reported_at": at, "due": True, "seen_high": high, "beyond": max(0, seen_high - said["produced"])}
    return {**dict(zip(_KEYS, key, strict=True)), **said, **judged, **_NOTHING_STORED}


def lines(engine: Engine, devices: Sequence[str] | None = None) -> list[LedgerLine]:
    """Every line of the ledger (of some devices), in a fixed order."""
    wanted = select(Stream).order_by(Stream.device, Stream.epoch, Stream.lane)
    if devices is not None:
        wanted = wanted.where(Stream.device.in_(devices))
    with reading(engine) as connection:
        return [_line(row) for row in connection.execute(wanted)]


def _line(row: Row) -> LedgerLine:
    counts = {
        "produced": row.produced,
        "queued": row.queued,
        "dropped": row.dropped,
        "acknowledged": row.acknowledged,
        "stored": row.stored,
        "excused": row.excused,
    }
    balance = ledger.balance(**counts)
    return LedgerLine(
        device=row.device,
        epoch=row.epoch,
        lane=row.lane,
        malformed=row.malformed,
        bytes=row.bytes,
        reported_at=row.reported_at,
        difference=balance.difference,
        lost=balance.lost,
        balanced=balance.balanced,
        **counts,
    )
