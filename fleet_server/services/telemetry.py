"""Questions about what devices recorded."""

from sqlalchemy import Engine, Row, func, select

from fleet_server.errors import BadRequest
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.database import read_page, reading
from fleet_server.tables.event import Event
from fleet_server.tables.stream import Stream
from fleet_server.tables.tally import Tally


def bundles_of(engine: Engine, *, bundle: str | None, version: str | None, task: str | None) -> tuple[str, ...] | None:
    """The bundles that are meant, by digest; None for all. Raises BadRequest for a version without its task, or both a version and a bundle."""
    if version is None:
        return None if bundle is None else (bundle,)
    if task is None or bundle is not None:
        raise BadRequest("a version is one of a task: give version and task, or bundle", field="version")
    with reading(engine) as connection:
        return tuple(connection.execute(select(Bundle.sha256).where(Bundle.task == task, Bundle.version == version)).scalars())


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
