"""Running counts of inferences."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class Tally(SQLModel, table=True):
    """How often a device answered `label` ("" for none) with a bundle: kept as records come, so that nobody counts rows."""

    __tablename__ = "tallies"

    device: str = Field(primary_key=True, foreign_key="devices.id")
    bundle: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)
