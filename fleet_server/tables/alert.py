"""Something that is wrong with a device, from when it was noticed until it was right again."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant

_OPEN = text("closed_at IS NULL")


class Alert(SQLModel, table=True):
    """`epoch` and `lane` are empty where it is about the device as a whole. One at a time is open of a kind."""

    __tablename__ = "alerts"
    __table_args__ = (Index("ix_alerts_open", "kind", "device", "epoch", "lane", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    kind: str
    device: str = Field(foreign_key="devices.id", index=True)
    epoch: str = ""
    lane: str = ""
    opened_at: datetime = Field(sa_type=Instant)
    closed_at: datetime | None = Field(default=None, sa_type=Instant)
    detail: dict[str, Any] = Field(sa_type=JSON)
