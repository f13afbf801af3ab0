"""A device certificate that this fleet issued. One device has at most one that is not revoked."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class Certificate(SQLModel, table=True):
    """`serial` is in hex."""

    __tablename__ = "certificates"

    serial: str = Field(primary_key=True)
    device: str = Field(index=True, foreign_key="devices.id")
    issued_at: datetime = Field(sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
