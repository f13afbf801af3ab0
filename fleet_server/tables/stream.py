"""One lane of one epoch of one device: what was stored of it, and what the device last reported. The two sides of the ledger."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Stream(SQLModel, table=True):
    """`high` is one above the highest sequence number seen; `stored` counts each record once, malformed ones among them; `coverage` says which
    (domain.coverage). From `produced` to `reported_at` it is what the device said last; `seen_high` was `high` then, and `beyond` tells how far
    `high` had been above `produced` one report earlier. Below `settled` every
    number is accounted for. `due`: the report waits to be judged. `excused` are missing, and accounted for all the same: the device told what became of
    them, or a person accepted it."""

    __tablename__ = "streams"
    __table_args__ = (
        UniqueConstraint("device", "epoch", "lane"),
        Index("ix_streams_due", "id", sqlite_where=text("due"), postgresql_where=text("due")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    device: str = Field(foreign_key="devices.id")
    epoch: str
    lane: str
    coverage: bytes = b""
    high: int = Field(default=0, sa_type=BigInteger)
    stored: int = Field(default=0, sa_type=BigInteger)
    malformed: int = Field(default=0, sa_type=BigInteger)
    bytes: int = Field(default=0, sa_type=BigInteger)
    produced: int = Field(default=0, sa_type=BigInteger)
    acknowledged: int = Field(default=0, sa_type=BigInteger)
    queued: int = Field(default=0, sa_type=BigInteger)
    dropped: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    oldest: int | None = Field(default=None, sa_type=BigInteger)
    reported_at: datetime | None = Field(default=None, sa_type=Instant)
    seen_high: int = Field(default=0, sa_type=BigInteger)
    beyond: int = Field(default=0, sa_type=BigInteger)
    settled: int = Field(default=0, sa_type=BigInteger)
    excused: int = Field(default=0, sa_type=BigInteger)
    due: bool = False


class MalformedRecord(SQLModel, table=True):
    """`count` records from `seq` on that could not be read: kept as a fact, so that the sums still add up."""

    __tablename__ = "malformed_records"

    stream: int = Field(primary_key=True, foreign_key="streams.id", sa_type=BigId)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    reason: str
    received_at: datetime = Field(sa_type=Instant)
    count: int = 1
