"""The ledger is held against what is stored, report by report, once all that a report may speak of has been taken in."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, bindparam, select, update

from fleet_contract.messages import DAMAGED, OUTBOX_RESET
from fleet_server.domain.alerts import Kind
from fleet_server.domain.coverage import Coverage
from fleet_server.domain.ledger import Report, Verdict, judge
from fleet_server.domain.records import is_count
from fleet_server.errors import Conflict
from fleet_server.services import alerts, audit
from fleet_server.services.alerts import Trouble
from fleet_server.tables.alert import Alert
from fleet_server.tables.bulk import rows_of
from fleet_server.tables.database import reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event
from fleet_server.tables.lake import LakeState
from fleet_server.tables.stream import Stream

MARGIN = timedelta(seconds=2)
"""Between the clocks of those who took in the report and the records."""
_MOST = 2_000
_KINDS = (Kind.LEDGER_MISSING, Kind.LEDGER_SURPLUS)
_ACCOUNTED = ("carried", "lost")
"""In the detail of the event with which an epoch begins after damage."""


@dataclass(frozen=True)
class Swept:
    """How many reports were judged, alerts opened and closed."""

    judged: int = 0
    opened: int = 0
    closed: int = 0


class _Judged(NamedTuple):
    """A stream, what is to be said of it, and how many `more` of its records are excused for that than its row says."""

    row: Row
    verdict: Verdict
    more: int


def sweep(engine: Engine, now: datetime) -> Swept:
    """Judge the reports that wait for it, at most some thousands a call, and again those that did not balance: their alerts close by themselves."""
    with reading(engine) as connection:
        until = connection.execute(select(LakeState.caught_up_at)).scalar_one_or_none()
        rows = [] if until is None else [*connection.execute(_due(until)), *connection.execute(_troubled())]
    if not rows:
        return Swept()
    judged = {_key(row): _judged(row) for row in rows}
    with writing(engine) as connection:
        judged |= {_key(each.row): each for each in _explained(connection, [*judged.values()])}
        _note(connection, [judged[key] for key in sorted(judged)])
        wrong = [trouble for each in judged.values() if (trouble := _trouble(each.row, each.verdict))]
        opened = alerts.raise_(connection, wrong, now)
        standing = {trouble.key for trouble in wrong}
        over = [row for row in _open(connection, [*judged]) if (row.kind, *_key(row)) not in standing]
        alerts.settle(connection, over, now)
    return Swept(len(judged), opened, len(over))


def _due(until: datetime) -> Any:
    return select(Stream).where(Stream.due, Stream.reported_at < until - MARGIN).order_by(Stream.id).limit(_MOST)


def _troubled() -> Any:
    mine = (Alert.device == Stream.device, Alert.epoch == Stream.epoch, Alert.lane == Stream.lane)
    ripe = (Stream.due.is_(False), Alert.closed_at.is_(None), Alert.kind.in_([kind.value for kind in _KINDS]))
    return select(Stream).join(Alert, mine[0] & mine[1] & mine[2]).where(*ripe).order_by(Stream.id).limit(_MOST)


def _key(row: Row) -> tuple[str, str, str]:
    return row.device, row.epoch, row.lane


def _judged(row: Row, more: int = 0) -> _Judged:
    report = Report(row.produced, row.acknowledged, row.queued, sum(row.dropped.values()), row.oldest, row.dropped.get(DAMAGED, 0))
    known = {"settled": row.settled, "beyond": row.beyond, "excused": row.excused + more}
    return _Judged(row, judge(report, Coverage.load(row.coverage), row.stored, **known), more)


def _explained(connection: Connection, judged: Sequence[_Judged]) -> Iterator[_Judged]:
    """What is missing of an epoch that ended because its outbox was damaged, where the device has said what became of no less."""
    missing: dict[str, list[_Judged]] = {}
    for each in judged:
        if each.verdict.lost:
            missing.setdefault(each.row.device, []).append(each)
    for device, (epoch, told) in _resets(connection, missing).items():
        before = [each for each in missing[device] if each.row.epoch != epoch]
        if sum(each.verdict.lost for each in before) <= told:
            yield from (_judged(each.row, each.verdict.lost) for each in before)


def _resets(connection: Connection, devices: Collection[str]) -> dict[str, tuple[str, int]]:
    """The epochs that these devices are in, and how many records they say to have numbered anew or dropped when they began them."""
    if not devices:
        return {}
    wanted = (
        select(Event.device, Stream.epoch, Event.detail).join(Stream, Event.stream == Stream.id).join(Device, Event.device == Device.id)
    )
    rows = rows_of(connection, wanted.where(Event.kind == OUTBOX_RESET, Stream.epoch == Device.epoch), Event.device, devices)
    return {
        row.device: (row.epoch, sum(count for name in _ACCOUNTED if isinstance(count := row.detail.get(name), int) and is_count(count)))
        for row in rows
    }


def _note(connection: Connection, judged: Sequence[_Judged]) -> None:
    """In the order of their keys, as all who write many streams. A report that came meanwhile stays due, and what was accepted meanwhile excused."""
    table = Stream.__table__
    mine = update(table).where(
        table.c.id == bindparam("key"), table.c.reported_at.is_not_distinct_from(bindparam("seen_at", type_=table.c.reported_at.type))
    )
    adding = mine.values(excused=table.c.excused + bindparam("more"))
    changes = [
        {"key": row.id, "seen_at": row.reported_at, "due": False, "settled": verdict.settled, "more": more}
        for row, verdict, more in judged
        if row.due or more
    ]
    if changes:
        connection.execute(adding, changes)


def _trouble(row: Row, verdict: Verdict) -> Trouble | None:
    if verdict.balanced:
        return None
    kind = Kind.LEDGER_MISSING if verdict.lost else Kind.LEDGER_SURPLUS
    detail = {"lost": verdict.lost, "first_missing": verdict.first_missing} if verdict.lost else {"surplus": verdict.surplus}
    if verdict.misreported:
        detail["misreported"] = True
    return Trouble(kind, row.device, row.epoch, row.lane, detail)


def accept(engine: Engine, alert: int, *, by: str, now: datetime) -> Row:
    """What this alert says to be missing is not waited for any more: it opens again when more is. Returns the alert, closed. Raises NotFound, and
    Conflict for one that is closed or of another kind."""
    with writing(engine) as connection:
        row = alerts.get(connection, alert)
        if row.closed_at is not None or row.kind != Kind.LEDGER_MISSING:
            raise Conflict(
                f"alert {alert} is {'closed' if row.closed_at else f'of {row.kind}'}: only a loss that is open can be accepted",
                field="alert",
            )
        mine = (Stream.device == row.device, Stream.epoch == row.epoch, Stream.lane == row.lane)
        stream = connection.execute(select(Stream).where(*mine).with_for_update(key_share=True)).one()
        lost = _judged(stream).verdict.lost
        connection.execute(update(Stream).where(Stream.id == stream.id).values(excused=stream.excused + lost))
        alerts.settle(connection, [row], now)
        audit.append(connection, by, "alert.accept", row.device, {"alert": alert, "epoch": row.epoch, "lane": row.lane, "lost": lost}, now)
        return alerts.get(connection, alert)


def _open(connection: Connection, streams: Sequence[tuple[str, str, str]]) -> list[Row]:
    wanted = set(streams)
    of_devices = alerts.open_of(connection, [device for device, _, _ in streams], _KINDS)
    return [row for row in of_devices if _key(row) in wanted]
