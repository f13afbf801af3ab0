"""The append-only log of every change, each entry chained to the one before by SHA-256."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class AuditEntry(SQLModel, table=True):
    """`at` is also inside what is hashed, as text: a database that rounds times must not break the chain."""

    __tablename__ = "audit"

    seq: int = Field(primary_key=True, sa_type=BigId, sa_column_kwargs={"autoincrement": False})
    at: datetime = Field(sa_type=Instant)
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(sa_type=JSON)
    hash: str


class AuditHead(SQLModel, table=True):
    """One row: the newest entry. Locked while an entry is added, so that two writers cannot fork the chain."""

    __tablename__ = "audit_head"

    id: int = Field(primary_key=True)
    seq: int = Field(sa_type=BigId)
    hash: str
