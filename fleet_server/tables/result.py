"""Inferences, and their running counts."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Result(SQLModel, table=True):
    """`detail` is what fleet_contract.answers.detail says beyond label and value, as JSON; `abstained`: the model was not sure enough to answer."""

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
    abstained: bool = False
    detail: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class Tally(SQLModel, table=True):
    """How often a device answered `label` ("" for none) with a bundle: kept as records come, so that nobody counts rows."""

    __tablename__ = "tallies"

    device: str = Field(primary_key=True, foreign_key="devices.id")
    bundle: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)
