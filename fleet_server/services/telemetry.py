"""Questions about what devices recorded."""

from sqlalchemy import Engine, Row, func, select

from fleet_server.tables.database import reading
from fleet_server.tables.event import Event
from fleet_server.tables.result import Result, Tally
from fleet_server.tables.stream import Stream


def results(engine: Engine, *, device: str | None, bundle: str | None, after: int, limit: int) -> list[Row]:
    """Inferences in the order they were stored."""
    columns = [column for column in Result.__table__.columns if column.name != "stream"]
    wanted = select(*columns, Stream.device, Stream.epoch).join(Stream, Stream.id == Result.stream)
    wanted = wanted.where(Result.id > after).order_by(Result.id).limit(limit)
    if device is not None:
        wanted = wanted.where(Stream.device == device)
    if bundle is not None:
        wanted = wanted.where(Result.bundle == bundle)
    with reading(engine) as connection:
        return list(connection.execute(wanted))


def tallies(engine: Engine) -> list[Row]:
    """How often each device answered each label with each bundle."""
    with reading(engine) as connection:
        return list(connection.execute(select(Tally).order_by(Tally.device, Tally.bundle, Tally.label)))


def bytes_stored(engine: Engine) -> list[Row]:
    """Records and their bytes, by device and lane, over all epochs."""
    totals = (func.sum(Stream.stored).label("records"), func.sum(Stream.bytes).label("bytes"))
    wanted = select(Stream.device, Stream.lane, *totals).group_by(Stream.device, Stream.lane).order_by(Stream.device, Stream.lane)
    with reading(engine) as connection:
        return list(connection.execute(wanted))


def events(engine: Engine, *, device: str | None, kind: str | None, after: int, limit: int) -> list[Row]:
    wanted = select(Event).where(Event.id > after).order_by(Event.id).limit(limit)
    if device is not None:
        wanted = wanted.where(Event.device == device)
    if kind is not None:
        wanted = wanted.where(Event.kind == kind)
    with reading(engine) as connection:
        return list(connection.execute(wanted))
