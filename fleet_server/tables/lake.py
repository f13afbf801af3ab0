"""The lake's catalogue: which Parquet files count, and how far the inbox has been taken into them."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from fleet_server.tables.columns import BigId, Instant


class LakeFile(SQLModel, table=True):
    """`path` is below home/lake, `first` and `last` the inbox ids that it was made of; its rows' times lie between `at_min_us` and `at_max_us`
    (since 1970 UTC). `gone_at`: its rows are elsewhere or expired, and the file itself follows a little later, for those who read it still."""

    __tablename__ = "lake_files"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    path: str = Field(unique=True)
    day: str = Field(index=True)
    task: str
    first: int = Field(sa_type=BigInteger)
    last: int = Field(sa_type=BigInteger)
    rows: int = Field(sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)
    at_min_us: int = Field(sa_type=BigInteger)
    at_max_us: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=Instant)
    gone_at: datetime | None = Field(default=None, sa_type=Instant)


class LakeState(SQLModel, table=True):
    """One row. Every inbox id up to `watermark` has been taken in; what was committed in the inbox before `caught_up_at` is among them."""

    __tablename__ = "lake_state"

    id: int = Field(default=1, primary_key=True)
    watermark: int = Field(default=0, sa_type=BigInteger)
    caught_up_at: datetime | None = Field(default=None, sa_type=Instant)
