"""A drift that was found on one device under one bundle, and how far its repair is."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Finding(SQLModel, table=True):
    """`state` is open, sampling, labelling, retraining or closed. One device has one finding that is not closed at most."""

    __tablename__ = "findings"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    device: str = Field(foreign_key="devices.id", index=True)
    bundle: str = Field(foreign_key="bundles.sha256")
    task: str = Field(index=True)
    feature: str
    effect: float
    p_value: float
    window: int
    inputs_at_detection: int = Field(sa_type=BigInteger)
    detected_at: datetime = Field(sa_type=Instant)
    state: str = Field(index=True)
    reason: str = ""
    closed_at: datetime | None = Field(default=None, sa_type=Instant)
