"""Questions about what devices recorded."""

from sqlalchemy import Engine, Row, func, select

from fleet_server.tables.database import read_page, reading
from fleet_server.tables.event import Event
from fleet_server.tables.result import Result, Tally
from fleet_server.tables.stream import Stream


def results(engine: Engine, *, device: str | None, bundle: str | None, abstained: bool | None = None, after: int, limit: int) -> list[Row]:
    """Inferences in the order they were stored."""
    columns = [column for column in Result.__table__.columns if column.name != "stream"]
    wanted = select(*columns, Stream.device, Stream.epoch).join(Stream, Stream.id == Result.stream)
    equal = {Stream.device: device, Result.bundle: bundle, Result.abstained: abstained}
    return read_page(engine, wanted, Result.id, after=after, limit=limit, equal=equal)


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
    return read_page(engine, select(Event), Event.id, after=after, limit=limit, equal={Event.device: device, Event.kind: kind})
