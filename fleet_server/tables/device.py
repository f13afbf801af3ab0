"""A device: what it is, what it shall run, and what it last said of itself."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class Device(SQLModel, table=True):
    """`desired_*`, `shadow_rollout` (whose bundle runs beside the desired one) and `issued_counter` are the server's; from `online` on, the device's
    last status. `instance` is which start of its agent spoke last; None before any has. While `quarantined_at` is set the device takes no part;
    nor until `throttled_until`, its `throttles`-th break in a row. `said_at` is its own time of its last status, `clock_offset_s` that less ours."""

    __tablename__ = "devices"

    id: str = Field(primary_key=True)
    profile: str
    task: str = Field(index=True)
    enrolled_at: datetime = Field(sa_type=Instant)
    desired_bundle: str | None = Field(default=None, foreign_key="bundles.sha256")
    desired_rollout: int | None = None
    shadow_rollout: int | None = Field(default=None, sa_type=BigInteger)
    issued_counter: int = Field(default=0, sa_type=BigInteger)
    online: bool = False
    last_seen: datetime | None = Field(default=None, sa_type=Instant)
    epoch: str | None = None
    agent_version: str = ""
    phase: str = "unknown"
    bundle: str | None = None
    bundle_version: str | None = None
    shadow: str | None = None
    order_counter: int = Field(default=0, sa_type=BigInteger)
    inputs: int = Field(default=0, sa_type=BigInteger)
    refused: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    error: str | None = None
    instance: str | None = None
    quarantined_at: datetime | None = Field(default=None, sa_type=Instant)
    quarantine_reason: str | None = None
    said_at: datetime | None = Field(default=None, sa_type=Instant)
    clock_offset_s: float | None = None
    throttled_until: datetime | None = Field(default=None, sa_type=Instant)
    throttles: int = 0
    heartbeat_s: int = 0
