"""The ledger's rows: one per device, epoch and lane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, select, update

from fleet_contract.messages import Lane, LaneLedger
from fleet_server.domain import ledger
from fleet_server.tables.database import insert_new, reading
from fleet_server.tables.stream import Stream


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
        empty = {
            "coverage": b"",
            "high": 0,
            "stored": 0,
            "malformed": 0,
            "bytes": 0,
            "produced": 0,
            "acknowledged": 0,
            "queued": 0,
            "dropped": {},
        }
        connection.execute(insert_new(connection, Stream), {"device": device, "epoch": epoch, "lane": lane.value, **empty})
        row = connection.execute(wanted).one()
    return row


def report(connection: Connection, device: str, epoch: str, lanes: Mapping[Lane, LaneLedger], at: datetime) -> None:
    """Write down what the device says of its own lanes."""
    for lane, said in sorted(lanes.items()):
        stream = lock(connection, device, epoch, lane)
        values = {"produced": said.produced, "acknowledged": said.acknowledged, "queued": said.queued, "dropped": dict(said.dropped)}
        connection.execute(update(Stream).where(Stream.id == stream.id).values(**values, reported_at=at))


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
