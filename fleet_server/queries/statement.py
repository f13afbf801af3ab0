"""Questions as SQL for DuckDB. Pure: every text that somebody chose is a parameter, and the SQL itself is made of the words in this file."""

from dataclasses import dataclass
from typing import Any

from fleet_server.queries.question import STEP_S, Cursor, Key, Question

COLUMNS = (
    'recorded_at AS "at"',
    "device",
    "epoch",
    "seq",
    "task",
    "bundle",
    "input_id",
    "label",
    "value",
    "latency_us",
    "abstained",
    "detail",
    "received_at",
    "mono_us",
    "boot",
    "clock",
)
"""AT is a word of DuckDB's SQL, so the view has another for it."""
_ORDER = ("epoch_us(recorded_at)", "device", "epoch", "seq")
_FIGURES = (
    "count(*) AS inputs",
    "count(*) FILTER (WHERE abstained) AS abstained",
    "avg(value) AS value_mean",
    "min(value) AS value_min",
    "max(value) AS value_max",
    "avg(latency_us) AS latency_us_mean",
    "max(latency_us) AS latency_us_max",
)


@dataclass(frozen=True)
class Statement:
    sql: str
    parameters: list[Any]


def page(question: Question, after: Cursor | None, limit: int) -> Statement:
    """At most `limit` rows or groups behind `after`, in the order of their keys."""
    if question.group_by:
        return _groups(question, after, limit)
    where, given = _where(question)
    if after:
        # The first condition says nothing new, but it is one that whole row groups can be left out by.
        where += ["recorded_at >= make_timestamptz(?)", f"({', '.join(_ORDER)}) > (?, ?, ?, ?)"]
        given += [after.values[0], *after.values]
    sql = f"SELECT {', '.join(COLUMNS)} FROM results{_all(where)} ORDER BY {', '.join(_ORDER)} LIMIT ?"
    return Statement(sql, [*given, limit])


def export(question: Question) -> Statement:
    """All rows in the order of the files, which needs no memory; groups in that of their keys."""
    if question.group_by:
        return _groups(question, None, None)
    where, given = _where(question)
    return Statement(f"SELECT {', '.join(COLUMNS)} FROM results{_all(where)}", given)


def count(question: Question) -> Statement:
    """How many rows `export` would give. Not for groups."""
    where, given = _where(question)
    return Statement(f"SELECT count(*) AS rows FROM results{_all(where)}", given)


def _groups(question: Question, after: Cursor | None, limit: int | None) -> Statement:
    where, given = _where(question)
    keys = [_key(key) for key in question.group_by]
    if after:
        where.append(f"({', '.join(_ordinal(key) for key in question.group_by)}) > ({', '.join('?' * len(keys))})")
        given += after.values
    figures = list(_FIGURES)
    if question.quantiles:
        shares = ", ".join(repr(float(share)) for share in question.quantiles)
        figures += [f"quantile_cont({column}, [{shares}]) AS {column}_quantiles" for column in ("value", "latency_us")]
    order = ", ".join(str(at + 1) for at in range(len(keys)))
    sql = f"SELECT {', '.join([*keys, *figures])} FROM results{_all(where)} GROUP BY {order} ORDER BY {order}"
    return Statement(f"{sql} LIMIT ?", [*given, limit]) if limit is not None else Statement(sql, given)


def _where(question: Question) -> tuple[list[str], list[Any]]:
    wanted = [
        ("recorded_at >= ?", question.since),
        ("recorded_at < ?", question.until),
        ("device = ?", question.device),
        ("task = ?", question.task),
        ("label = ?", question.label),
        ("abstained = ?", question.abstained),
    ]
    where, given = [condition for condition, value in wanted if value is not None], [value for _, value in wanted if value is not None]
    if question.bundles is not None:
        where.append(f"bundle IN ({', '.join('?' * len(question.bundles)) or 'NULL'})")
        given += question.bundles
    return where, given


def _all(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _key(key: Key) -> str:
    if key in STEP_S:
        return f"to_timestamp({_ordinal(key)}) AS {key}"
    return f"{_ordinal(key)} AS {key}"


def _ordinal(key: Key) -> str:
    """What groups are told apart and put in order by; "" where the model gave no label."""
    if key in STEP_S:
        return f"epoch_us(recorded_at) // {STEP_S[key] * 1_000_000} * {STEP_S[key]}"
    return "coalesce(label, '')" if key is Key.LABEL else key.value
