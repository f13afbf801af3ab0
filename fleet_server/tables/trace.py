"""One record that somebody follows on its way from the device into the lake."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class Trace(SQLModel, table=True):
    """`id` and `parent` are those of W3C Trace Context. The times from `recorded_at` to `sent_at` are the device's, the others ours; None until then.
    `asked_at` is None where a caller of the device's own API began the trace."""

    __tablename__ = "traces"

    id: str = Field(primary_key=True)
    device: str = Field(index=True)
    parent: str
    asked_by: str | None = None
    asked_at: datetime | None = Field(default=None, sa_type=Instant)
    epoch: str | None = None
    lane: str | None = None
    sequence: int | None = Field(default=None, sa_type=BigInteger)
    latency_us: int | None = Field(default=None, sa_type=BigInteger)
    recorded_at: datetime | None = Field(default=None, sa_type=Instant)
    committed_at: datetime | None = Field(default=None, sa_type=Instant)
    sent_at: datetime | None = Field(default=None, sa_type=Instant)
    received_at: datetime | None = Field(default=None, sa_type=Instant)
    compacted_at: datetime | None = Field(default=None, sa_type=Instant)
    exported_at: datetime | None = Field(default=None, sa_type=Instant)
