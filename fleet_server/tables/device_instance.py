"""An instance of a device's agent that another has taken the place of, kept for as long as its return would mean something."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import Instant


class DeviceInstance(SQLModel, table=True):
    __tablename__ = "device_instances"

    device: str = Field(primary_key=True, foreign_key="devices.id")
    instance: str = Field(primary_key=True)
    left_at: datetime = Field(sa_type=Instant)
