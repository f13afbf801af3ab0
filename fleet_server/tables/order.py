"""An order as it was signed; the newest counter of a device is its desired state. `signed_by` is the id of the orders key."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class IssuedOrder(SQLModel, table=True):
    __tablename__ = "orders"

    device: str = Field(primary_key=True, foreign_key="devices.id")
    counter: int = Field(primary_key=True, sa_type=BigInteger)
    bundle: str
    rollout: int | None = None
    campaign: str | None = None
    issued_at: datetime = Field(sa_type=Instant)
    not_after: datetime = Field(sa_type=Instant)
    envelope: bytes
    signed_by: str | None = None
