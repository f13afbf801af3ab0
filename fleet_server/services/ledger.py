"""The ledger is held against what is stored, report by report, once all that a report may speak of has been taken in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, select, update

from fleet_contract.messages import DAMAGED
from fleet_server.domain.alerts import Kind
from fleet_server.domain.coverage import Coverage
from fleet_server.domain.ledger import Report, Verdict, judge
from fleet_server.services import alerts
from fleet_server.services.alerts import Trouble
from fleet_server.tables.alert import Alert
from fleet_server.tables.database import reading, writing
from fleet_server.tables.lake import LakeState
from fleet_server.tables.stream import Stream

MARGIN = timedelta(seconds=2)
"""Between the clocks of those who took in the report and the records."""
_MOST = 2_000
_KINDS = (Kind.LEDGER_MISSING, Kind.LEDGER_SURPLUS)


@dataclass(frozen=True)
class Swept:
    """How many reports were judged, alerts opened and closed."""

    judged: int = 0
    opened: int = 0
    closed: int = 0


def sweep(engine: Engine, now: datetime) -> Swept:
    """Judge the reports that wait for it, at most some thousands a call, and again those that did not balance: their alerts close by themselves."""
    with reading(engine) as connection:
        until = connection.execute(select(LakeState.caught_up_at)).scalar_one_or_none()
        rows = [] if until is None else [*connection.execute(_due(until)), *connection.execute(_troubled())]
    if not rows:
        return Swept()
    verdicts = {(row.device, row.epoch, row.lane): (row, _verdict(row)) for row in rows}
    with writing(engine) as connection:
        _note(connection, [verdicts[key] for key in sorted(verdicts)])
        wrong = [trouble for row, verdict in verdicts.values() if (trouble := _trouble(row, verdict))]
        opened = alerts.raise_(connection, wrong, now)
        standing = {trouble.key for trouble in wrong}
        over = [row for row in _open(connection, [*verdicts]) if (row.kind, row.device, row.epoch, row.lane) not in standing]
        alerts.settle(connection, over, now)
    return Swept(len(verdicts), opened, len(over))


def _due(until: datetime) -> Any:
    return select(Stream).where(Stream.due, Stream.reported_at < until - MARGIN).order_by(Stream.id).limit(_MOST)


def _troubled() -> Any:
    mine = (Alert.device == Stream.device, Alert.epoch == Stream.epoch, Alert.lane == Stream.lane)
    ripe = (Stream.due.is_(False), Alert.closed_at.is_(None), Alert.kind.in_([kind.value for kind in _KINDS]))
    return select(Stream).join(Alert, mine[0] & mine[1] & mine[2]).where(*ripe).order_by(Stream.id).limit(_MOST)


def _verdict(row: Row) -> Verdict:
    report = Report(row.produced, row.acknowledged, row.queued, sum(row.dropped.values()), row.oldest, row.dropped.get(DAMAGED, 0))
    return judge(report, Coverage.load(row.coverage), row.stored, settled=row.settled, beyond=row.beyond)


def _note(connection: Connection, judged: Sequence[tuple[Row, Verdict]]) -> None:
    """In the order of their keys, as all who write many streams. A report that came meanwhile stays due."""
    table = Stream.__table__
    mine = update(table).where(
        table.c.id == bindparam("key"), table.c.reported_at.is_not_distinct_from(bindparam("seen_at", type_=table.c.reported_at.type))
    )
    changes = [{"key": row.id, "seen_at": row.reported_at, "due": False, "settled": verdict.settled} for row, verdict in judged if row.due]
    if changes:
        connection.execute(mine, changes)


def _trouble(row: Row, verdict: Verdict) -> Trouble | None:
    if verdict.balanced:
        return None
    kind = Kind.LEDGER_MISSING if verdict.lost else Kind.LEDGER_SURPLUS
    detail = {"lost": verdict.lost, "first_missing": verdict.first_missing} if verdict.lost else {"surplus": verdict.surplus}
    if verdict.misreported:
        detail["misreported"] = True
    return Trouble(kind, row.device, row.epoch, row.lane, detail)


def _open(connection: Connection, streams: Sequence[tuple[str, str, str]]) -> list[Row]:
    wanted = set(streams)
    of_devices = alerts.open_of(connection, [device for device, _, _ in streams], _KINDS)
    return [row for row in of_devices if (row.device, row.epoch, row.lane) in wanted]
