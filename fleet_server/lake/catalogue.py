"""Which files of the lake count: what the database lists, and nothing else that lies in the folder."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from fleet_server.errors import Conflict
from fleet_server.lake.parquet import RESULTS, Made
from fleet_server.tables.database import reading, writing
from fleet_server.tables.lake import LakeFile, LakeState


def watermark(engine: Engine) -> int:
    """The inbox id up to which everything is taken in."""
    with reading(engine) as connection:
        return connection.execute(select(LakeState.watermark)).scalar_one()


def advance(connection: Connection, before: int, after: int, caught_up_at: datetime | None) -> None:
    """Move the watermark. Raises Conflict where somebody else has moved it."""
    values = {"watermark": after} | ({"caught_up_at": caught_up_at} if caught_up_at else {})
    moved = connection.execute(update(LakeState).where(LakeState.watermark == before).values(**values))
    if moved.rowcount != 1:
        raise Conflict(f"another compactor has gone on from inbox id {before}", field="watermark")


def caught_up(engine: Engine, at: int, caught_up_at: datetime) -> None:
    """Nothing waits beyond the watermark `at`. Raises Conflict as `advance`."""
    with writing(engine) as connection:
        advance(connection, at, at, caught_up_at)


def add(connection: Connection, made: Sequence[Made], now: datetime) -> None:
    if made:
        connection.execute(insert(LakeFile), [{**asdict(each), "created_at": now} for each in made])


def listed(connection: Connection) -> list[Row]:
    """The files that count, by day, task and age."""
    wanted = select(LakeFile).where(LakeFile.gone_at.is_(None)).order_by(LakeFile.day, LakeFile.task, LakeFile.first, LakeFile.id)
    return list(connection.execute(wanted))


def drop(connection: Connection, files: Iterable[int], now: datetime) -> None:
    """From now on they do not count; they lie there a while longer for those who have listed them."""
    connection.execute(update(LakeFile).where(LakeFile.id.in_(list(files))).values(gone_at=now))


def forget(connection: Connection, files: Iterable[int]) -> None:
    connection.execute(delete(LakeFile).where(LakeFile.id.in_(list(files))))


def strays(root: Path, known: Iterable[str]) -> list[Path]:
    """What an interrupted turn left: files of the lake that the database does not know, finished or not."""
    wanted = {root / path for path in known}
    return [
        path
        for path in sorted((root / RESULTS).glob("day=*/task=*/*")) + sorted((root / RESULTS).glob("day=*/task=*/.*"))
        if path not in wanted
    ]
