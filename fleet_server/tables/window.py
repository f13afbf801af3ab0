"""A window of a device's sketched inputs, and what the drift rule made of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Window(SQLModel, table=True):
    """`position` counts the windows of this device on this bundle from 1 (None: not judged yet); `verdict` is healthy, drifted or unreadable;
    `features` holds effect and p-value per feature against the `closest` condition."""

    __tablename__ = "windows"
    __table_args__ = (UniqueConstraint("stream", "seq"), Index("ix_windows_device_bundle", "device", "bundle", "position"))

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    stream: int = Field(foreign_key="streams.id", sa_type=BigId)
    seq: int = Field(sa_type=BigInteger)
    device: str
    bundle: str
    start: datetime = Field(sa_type=Instant)
    end: datetime = Field(sa_type=Instant)
    received_at: datetime = Field(sa_type=Instant)
    first_input: int = Field(sa_type=BigInteger)
    inputs: int = Field(sa_type=BigInteger)
    sketch: bytes
    verdict: str | None = Field(default=None, index=True)
    position: int | None = None
    streak: int = 0
    closest: str | None = None
    level: float | None = None
    features: list[Any] = Field(default_factory=list, sa_type=JSON)
