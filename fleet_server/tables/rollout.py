"""A rollout of one bundle, and how far each of its devices is."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class Rollout(SQLModel, table=True):
    """`everyone` is whether it is for every device of the task, those enrolled later too; `shadow` whether the bundle is only to run beside theirs."""

    __tablename__ = "rollouts"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    bundle: str = Field(foreign_key="bundles.sha256")
    task: str = Field(index=True)
    state: str = Field(index=True)
    everyone: bool
    shadow: bool = False
    canaries: list[Any] = Field(sa_type=JSON)
    finding: int | None = None
    reason: str = ""
    created_by: str
    created_at: datetime = Field(sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)


class RolloutDevice(SQLModel, table=True):
    """`inputs_before` is how many inputs the device had answered with this bundle when it was ordered: the gate counts from there."""

    __tablename__ = "rollout_devices"

    rollout: int = Field(primary_key=True, foreign_key="rollouts.id", sa_type=BigId)
    device: str = Field(primary_key=True, foreign_key="devices.id")
    state: str
    previous: str | None = None
    ordered_at: datetime | None = Field(default=None, sa_type=Instant)
    active_at: datetime | None = Field(default=None, sa_type=Instant)
    inputs_before: int = Field(default=0, sa_type=BigInteger)
