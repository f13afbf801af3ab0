"""Groups from the minutes in the database, which nobody has to count."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, Select, cast, func, literal, select, tuple_
from sqlalchemy.types import BigInteger, Float

from fleet_contract.instants import microseconds, moment
from fleet_server.queries.patience import bounded_reading
from fleet_server.queries.question import STEP_S, Cursor, Key, Question
from fleet_server.tables.minutes import Minute, Series

_PART_ROWS = 5_000
_COLUMNS = {Key.DEVICE: Series.device, Key.BUNDLE: Series.bundle, Key.TASK: Series.task}


def groups(engine: Engine, question: Question, after: Cursor | None, limit: int | None, max_s: float) -> Iterator[list[dict[str, Any]]]:
    """As queries.statement gives them, without quantiles, some thousands at a time. `question.source()` is Source.MINUTES. Raises TooSlow."""
    wanted = _statement(question, after, limit)
    with bounded_reading(engine, max_s) as connection:
        rows = connection.execution_options(yield_per=_PART_ROWS).execute(wanted).mappings()
        for part in rows.partitions():
            yield [_told(question, row) for row in part]


def _statement(question: Question, after: Cursor | None, limit: int | None) -> Select:
    keys = [_key(key) for key in question.group_by]
    inputs = func.sum(Minute.inputs)
    wanted = select(
        *(key.label(name) for name, key in zip(question.group_by, keys, strict=True)),
        cast(inputs, BigInteger).label("inputs"),
        cast(func.sum(Minute.abstained), BigInteger).label("abstained"),
        (func.sum(Minute.value_sum) / cast(inputs, Float)).label("value_mean"),
        func.min(Minute.value_min).label("value_min"),
        func.max(Minute.value_max).label("value_max"),
        (func.sum(Minute.latency_us_sum) / cast(inputs, Float)).label("latency_us_mean"),
        func.max(Minute.latency_us_max).label("latency_us_max"),
    ).join(Series, Series.id == Minute.series)
    wanted = _narrowed(wanted, question).group_by(*keys).order_by(*keys)
    if after:
        ended = [value // STEP_S[key] if key in STEP_S else value for key, value in zip(question.group_by, after.values, strict=True)]
        wanted = wanted.where(tuple_(*keys) > tuple_(*map(literal, ended)))
    return wanted if limit is None else wanted.limit(limit)


def _narrowed(wanted: Select, question: Question) -> Select:
    if question.since:
        wanted = wanted.where(Minute.minute >= microseconds(question.since) // 60_000_000)
    if question.until:
        wanted = wanted.where(Minute.minute < microseconds(question.until) // 60_000_000)
    if question.bundles is not None:
        wanted = wanted.where(Series.bundle.in_(question.bundles))
    equal = {Series.device: question.device, Series.task: question.task}
    return wanted.where(*(column == value for column, value in equal.items() if value is not None))


def _key(key: Key) -> Any:
    """A time is told by the number of its steps: the text of the expression must not have a parameter, or PostgreSQL sees two."""
    if key in STEP_S:
        return Minute.minute.op("/")(literal(STEP_S[key] // 60, literal_execute=True))
    return _COLUMNS[key]


def _told(question: Question, row: Any) -> dict[str, Any]:
    step = question.step
    return dict(row) | ({step.value: moment(row[step] * STEP_S[step] * 1_000_000)} if step else {})
