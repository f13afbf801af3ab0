"""Devices that were deleted: what is left to do, and which certificates of theirs nobody may use."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class Deletion(SQLModel, table=True):
    """Of a device's rows nothing is left. `samples` are [id, sha256] of those it sent, whose files are deleted after them. `cleared_at`: the broker
    retains nothing of it; `done_at`: the lake and the samples' folder hold nothing of it either."""

    __tablename__ = "deletions"

    device: str = Field(primary_key=True)
    asked_at: datetime = Field(sa_type=Instant)
    asked_by: str
    samples: list[Any] = Field(sa_type=JSON)
    cleared_at: datetime | None = Field(default=None, sa_type=Instant)
    done_at: datetime | None = Field(default=None, sa_type=Instant)


class RevokedCertificate(SQLModel, table=True):
    """`serial` is in hex, as in certificates."""

    __tablename__ = "revoked_certificates"

    serial: str = Field(primary_key=True)
    device: str
    revoked_at: datetime = Field(sa_type=Instant)
