"""Inferences by the minute: what is asked for often, and outlives the rows in the lake."""

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId


class Series(SQLModel, table=True):
    """One device under one bundle, so that a minute's row names neither."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("device", "bundle"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    device: str
    task: str
    bundle: str


class Minute(SQLModel, table=True):
    """`minute` counts whole minutes since 1970 UTC, of the inferences' own times. Values and latencies of damaged devices are held within
    domain.rollups.MAX_VALUE before they are added; `latency_0` to `latency_7` count by domain.rollups.LATENCY_BOUNDS_US."""

    __tablename__ = "minutes"

    minute: int = Field(primary_key=True, sa_type=BigInteger)
    series: int = Field(primary_key=True, foreign_key="series.id", sa_type=BigId)
    inputs: int = Field(sa_type=BigInteger)
    abstained: int = Field(sa_type=BigInteger)
    value_sum: float
    value_min: float
    value_max: float
    latency_us_sum: float
    latency_us_max: int = Field(sa_type=BigInteger)
    latency_0: int = Field(sa_type=BigInteger)
    latency_1: int = Field(sa_type=BigInteger)
    latency_2: int = Field(sa_type=BigInteger)
    latency_3: int = Field(sa_type=BigInteger)
    latency_4: int = Field(sa_type=BigInteger)
    latency_5: int = Field(sa_type=BigInteger)
    latency_6: int = Field(sa_type=BigInteger)
    latency_7: int = Field(sa_type=BigInteger)
