"""A bearer token of the API: its secret's SHA-256, never the secret."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class ApiToken(SQLModel, table=True):
    __tablename__ = "api_tokens"

    id: str = Field(primary_key=True)
    secret_sha256: str
    role: str
    created_at: datetime = Field(sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
