"""Inferences, and their running counts."""

from datetime import datetime

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Result(SQLModel, table=True):
    __tablename__ = "results"
    __table_args__ = (UniqueConstraint("stream", "seq"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    stream: int = Field(foreign_key="streams.id", sa_type=BigId)
    seq: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=Instant)
    bundle: str
    input_id: str
    label: str | None
    value: float
    latency_us: int = Field(sa_type=BigInteger)


class Tally(SQLModel, table=True):
    """How often a device answered `label` ("" for none) with a bundle: kept as records come, so that nobody counts rows."""

    __tablename__ = "tallies"

    device: str = Field(primary_key=True, foreign_key="devices.id")
    bundle: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)
