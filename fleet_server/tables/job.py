"""A retraining job."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Job(SQLModel, table=True):
    """`state` is queued, running, accepted, refused or failed. `labels` is how many labels of its finding it was given (of its task, without one)."""

    __tablename__ = "jobs"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    task: str
    champion: str = Field(foreign_key="bundles.sha256")
    finding: int | None = None
    state: str = Field(index=True)
    stage: str = ""
    share: float = 0.0
    reason: str = ""
    attempts: int = 0
    labels: int = 0
    gates: list[Any] = Field(default_factory=list, sa_type=JSON)
    metrics: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    bundle: str | None = None
    rollout: int | None = None
    created_by: str
    created_at: datetime = Field(sa_type=Instant)
    started_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)
