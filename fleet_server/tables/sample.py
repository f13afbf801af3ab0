"""A chosen input, and the truth that a person gave it. Its bytes lie in the samples folder under their SHA-256."""

from datetime import datetime

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Sample(SQLModel, table=True):
    __tablename__ = "samples"
    __table_args__ = (UniqueConstraint("stream", "seq"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    stream: int = Field(foreign_key="streams.id", sa_type=BigId)
    seq: int = Field(sa_type=BigInteger)
    device: str = Field(index=True)
    at: datetime = Field(sa_type=Instant)
    bundle: str
    campaign: str = Field(index=True)
    input_id: str
    media_type: str
    sha256: str
    bytes: int
    label: str | None
    value: float


class Label(SQLModel, table=True):
    """The newest word on a sample; earlier ones are in the audit log."""

    __tablename__ = "labels"

    sample: int = Field(primary_key=True, foreign_key="samples.id", sa_type=BigId)
    label: str
    labelled_by: str
    labelled_at: datetime = Field(sa_type=Instant)
