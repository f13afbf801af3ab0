"""A published bundle: what the control loop needs of it without opening the archive."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Bundle(SQLModel, table=True):
    """`manifest` is the archive's manifest.json, `reference` its msgpack reference; `target_path` its name in the signed metadata."""

    __tablename__ = "bundles"
    __table_args__ = (UniqueConstraint("task", "version"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    sha256: str = Field(unique=True)
    task: str
    version: str
    target_path: str
    length: int = Field(sa_type=BigInteger)
    manifest: dict[str, Any] = Field(sa_type=JSON)
    reference: bytes
    job: int | None = None
    published_by: str
    published_at: datetime = Field(sa_type=Instant)
