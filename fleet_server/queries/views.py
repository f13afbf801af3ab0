"""What SQL of people sees of the database: chosen columns of chosen tables, none of which holds a secret."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Engine, Select, select
from sqlmodel import AutoString

from fleet_server.services import streams
from fleet_server.tables.alert import Alert
from fleet_server.tables.audit import AuditEntry
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.columns import Instant
from fleet_server.tables.database import reading
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event
from fleet_server.tables.finding import Finding
from fleet_server.tables.minutes import Minute, Series
from fleet_server.tables.rollout import Rollout
from fleet_server.tables.sample import Label, Sample
from fleet_server.tables.window import Window

if TYPE_CHECKING:
    import pyarrow as pa

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class View:
    """`wanted` gives the newest rows first."""

    name: str
    wanted: Select


def _columns(table: Any, *left_out: str, **renamed: str) -> list[Any]:
    return [column.label(renamed.get(column.name, column.name)) for column in table.__table__.columns if column.name not in left_out]


def _minutes() -> Select:
    return (
        select(Series.device, Series.task, Series.bundle, *_columns(Minute, "series"))
        .join(Series, Series.id == Minute.series)
        .order_by(Minute.minute.desc())
    )


def _samples() -> Select:
    truth = (Label.label.label("truth"), Label.labelled_by, Label.labelled_at)
    wanted = select(*_columns(Sample, "stream", "seq", at="recorded_at"), *truth).join(Label, Label.sample == Sample.id, isouter=True)
    return wanted.order_by(Sample.id.desc())


VIEWS: Mapping[str, View] = {
    view.name: view
    for view in (
        View("minutes", _minutes()),
        View("devices", select(*_columns(Device)).order_by(Device.id)),
        View("events", select(*_columns(Event, "stream", at="recorded_at")).order_by(Event.id.desc())),
        View("alerts", select(*_columns(Alert)).order_by(Alert.id.desc())),
        View("bundles", select(*_columns(Bundle, "reference", "manifest")).order_by(Bundle.id.desc())),
        View("rollouts", select(*_columns(Rollout)).order_by(Rollout.id.desc())),
        View("findings", select(*_columns(Finding)).order_by(Finding.id.desc())),
        View(
            "windows",
            select(*_columns(Window, "stream", "sketch", start="window_start", end="window_end")).order_by(Window.id.desc()),
        ),
        View("samples", _samples()),
        View("audit", select(*_columns(AuditEntry, at="done_at")).order_by(AuditEntry.seq.desc())),
    )
}
LEDGER = "ledger"
NAMES = ("results", *VIEWS, LEDGER)
_LEDGER_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("device", "epoch", "lane"), str),
    **dict.fromkeys(("produced", "acknowledged", "queued"), int),
    "dropped": dict,
    **dict.fromkeys(("stored", "excused", "malformed", "bytes"), int),
    "reported_at": datetime,
    **dict.fromkeys(("difference", "lost"), int),
    "balanced": bool,
}


def named(sql: str) -> frozenset[str]:
    """The views that a text may be about: all that it has the names of."""
    return frozenset(_WORD.findall(sql.lower())) & frozenset(NAMES)


def tables(engine: Engine, names: frozenset[str], max_rows: int, tell: Callable[[str], None]) -> Iterator[tuple[str, "pa.Table"]]:
    """Every view but `results`, those in `names` with their newest `max_rows` rows, the others empty. `tell` hears of each that has more."""
    for name, view in VIEWS.items():
        rows = _newest(engine, view.wanted.limit(max_rows + 1)) if name in names else []
        if len(rows) > max_rows:
            tell(f"{name}: only its newest {max_rows} rows are seen; --table-rows asks for more")
        yield name, _table(_kinds(view.wanted), rows[:max_rows])
    lines = streams.lines(engine) if LEDGER in names else []
    yield LEDGER, _table(_LEDGER_KINDS, [[getattr(line, name) for name in _LEDGER_KINDS] for line in lines])


def _newest(engine: Engine, wanted: Select) -> Sequence[Sequence[Any]]:
    with reading(engine) as connection:
        return connection.execute(wanted).fetchall()


def _kinds(wanted: Select) -> Mapping[str, type]:
    """What Python makes of each column; JSON is a dict, whatever is in it."""
    special = ((Instant, datetime), (JSON, dict), (AutoString, str))
    return {
        column.name: next((kind for sort, kind in special if isinstance(column.type, sort)), None) or column.type.python_type
        for column in wanted.selected_columns
    }


def _table(kinds: Mapping[str, type], rows: Sequence[Sequence[Any]]) -> "pa.Table":
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), dict: pa.string()}
    types[datetime] = pa.timestamp("us", "UTC")
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    arrays = []
    for (name, kind), column in zip(kinds.items(), columns, strict=True):
        values = [None if value is None else json.dumps(value) for value in column] if kind is dict else list(column)
        arrays.append((name, pa.array(values, types[kind])))
    return pa.table(dict(arrays))
