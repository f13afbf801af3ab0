"""What a variant of a bundle showed on a backend of a device, the last time that it was installed there."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class Measurement(SQLModel, table=True):
    """`verdict` is "right", or a stable word for why not, told in `message`; figures that were not reached are 0."""

    __tablename__ = "measurements"

    device: str = Field(primary_key=True, foreign_key="devices.id")
    bundle: str = Field(primary_key=True, index=True)
    variant: str = Field(primary_key=True)
    backend: str = Field(primary_key=True)
    at: datetime = Field(sa_type=Instant)
    verdict: str
    message: str
    p50_us: float
    p99_us: float
    memory_bytes: int = Field(sa_type=BigInteger)
    load_ms: float
    max_difference: float
    chosen: bool
