"""One lane of one epoch of one device: what was stored of it, and what the device last reported. The two sides of the ledger."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Stream(SQLModel, table=True):
    """`high` is one above the highest sequence number seen; `stored` counts each record once, malformed ones among them."""

    __tablename__ = "streams"
    __table_args__ = (UniqueConstraint("device", "epoch", "lane"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    device: str = Field(foreign_key="devices.id")
    epoch: str
    lane: str
    high: int = Field(default=0, sa_type=BigInteger)
    stored: int = Field(default=0, sa_type=BigInteger)
    malformed: int = Field(default=0, sa_type=BigInteger)
    bytes: int = Field(default=0, sa_type=BigInteger)
    produced: int = Field(default=0, sa_type=BigInteger)
    acknowledged: int = Field(default=0, sa_type=BigInteger)
    queued: int = Field(default=0, sa_type=BigInteger)
    dropped: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    reported_at: datetime | None = Field(default=None, sa_type=Instant)


class MalformedRecord(SQLModel, table=True):
    """A record that could not be read: kept as a fact, so that the sums still add up."""

    __tablename__ = "malformed_records"

    stream: int = Field(primary_key=True, foreign_key="streams.id", sa_type=BigId)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    reason: str
    received_at: datetime = Field(sa_type=Instant)
