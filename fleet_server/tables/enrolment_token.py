"""A one-time enrolment token: its secret's SHA-256, never the secret."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class EnrolmentToken(SQLModel, table=True):
    __tablename__ = "enrolment_tokens"

    id: str = Field(primary_key=True)
    secret_sha256: str
    device_id: str = Field(index=True)
    profile: str
    task: str
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime = Field(sa_type=Instant)
    used_at: datetime | None = Field(default=None, sa_type=Instant)
