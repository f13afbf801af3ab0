"""What a process beside the API says of its own work: an ingest worker, the compactor."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class ProcessFigures(SQLModel, table=True):
    """One row a process, written over each second or two; `content` is a services.figures.Figures."""

    __tablename__ = "figures"

    name: str = Field(primary_key=True)
    kind: str
    at: datetime = Field(sa_type=Instant)
    content: dict[str, Any] = Field(sa_type=JSON)
