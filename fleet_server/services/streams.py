"""The ledger's rows: one per device, epoch and lane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, select, update

from fleet_contract.messages import Lane, LaneLedger
from fleet_server.domain import ledger
from fleet_server.domain.statuses import is_news, reported
from fleet_server.tables.database import insert_new, reading
from fleet_server.tables.stream import Stream

_EMPTY = {"high": 0, "stored": 0, "malformed": 0, "bytes": 0, "produced": 0, "acknowledged": 0, "queued": 0, "dropped": {}, "coverage": b""}
_REPORTED = tuple(
    getattr(Stream, name)
    for name in (
        *("device", "epoch", "lane", "high", "seen_high", "reported_at"),
        *("produced", "acknowledged", "queued", "dropped", "oldest"),
    )
)


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
    malformed: int
    bytes: int
    reported_at: datetime | None
    difference: int
    lost: int
    balanced: bool


def lock(connection: Connection, device: str, epoch: str, lane: Lane) -> Row:
    """The stream's row, made if need be, and held against other writers until the transaction ends."""
    wanted = select(Stream).where(Stream.device == device, Stream.epoch == epoch, Stream.lane == lane.value).with_for_update()
    row = connection.execute(wanted).one_or_none()
    if row is None:
        connection.execute(insert_new(connection, Stream), {"device": device, "epoch": epoch, "lane": lane.value, **_EMPTY})
        row = connection.execute(wanted).one()
    return row


def report(connection: Connection, said: Sequence[tuple[str, str, Mapping[Lane, LaneLedger], datetime]]) -> None:
    """Write down what devices say of their own lanes: (device, epoch, by lane, when it came). What says nothing new is not written."""
    keys = ("device", "epoch", "lane")
    wanted = {(device, epoch, lane.value): (reported(mine), at) for device, epoch, lanes, at in said for lane, mine in lanes.items()}
    if not wanted:
        return
    held = (
        select(*_REPORTED).where(Stream.device.in_({device for device, _, _ in wanted})).order_by(Stream.device, Stream.epoch, Stream.lane)
    )
    rows = {(row.device, row.epoch, row.lane): row for row in connection.execute(held.with_for_update())}
    new = [key for key in sorted(wanted) if key not in rows]
    if new:
        connection.execute(insert_new(connection, Stream), [{**dict(zip(keys, key, strict=True)), **_EMPTY} for key in new])
    changes = [_change(key, rows.get(key), values, at) for key, (values, at) in sorted(wanted.items())]
    if changes := [change for change in changes if change]:
        table = Stream.__table__
        mine = (table.c[name] == bindparam(f"the_{name}") for name in keys)
        connection.execute(update(table).where(*mine), changes)


def _change(key: tuple[str, str, str], row: Row | None, values: dict[str, Any], at: datetime) -> dict[str, Any] | None:
    if row is not None and row.reported_at is not None and not is_news(values, row):
        return None
    high, seen_high = (0, 0) if row is None else (row.high, row.seen_high)
    judged = {"reported_at": at, "due": True, "seen_high": high, "beyond": max(0, seen_high - values["produced"])}
    return {"the_device": key[0], "the_epoch": key[1], "the_lane": key[2], **values, **judged}


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
