"""Something that happened once on a device."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Event(SQLModel, table=True):
    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("stream", "seq"), Index("ix_events_device_kind", "device", "kind"))

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    stream: int = Field(foreign_key="streams.id", sa_type=BigId)
    seq: int = Field(sa_type=BigInteger)
    device: str
    at: datetime = Field(sa_type=Instant)
    received_at: datetime = Field(sa_type=Instant)
    kind: str
    detail: dict[str, Any] = Field(sa_type=JSON)
