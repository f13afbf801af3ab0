"""Answers, page by page or whole, a few at a time, each within its bounds."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Engine

from fleet_contract import limits
from fleet_contract.instants import microseconds
from fleet_server.errors import TooLarge, Unavailable
from fleet_server.queries import duck, files, formats, minutes, statement
from fleet_server.queries.bounds import Bounds
from fleet_server.queries.duck import FileGone
from fleet_server.queries.files import Listed
from fleet_server.queries.question import STEP_S, Cursor, Question, Source
from fleet_server.queries.statement import Statement

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 10_000
_EXPORT_TIMES = 10
"""An export may take so many times as long as a page."""
_TRIES = 3


@dataclass(frozen=True)
class Page:
    """`next` is the cursor behind the last item, None when there is nothing more."""

    items: list[dict[str, Any]]
    next: str | None


class Reader:
    """`folder` is the lake's; at most `slots` questions are answered from it at a time, and others wait `patience_s`. Thread-safe; holds nothing
    open between questions."""

    def __init__(self, engine: Engine, folder: Path, bounds: Bounds, *, slots: int = 2, patience_s: float = 10.0) -> None:
        self._engine, self._folder, self._bounds, self._patience_s = engine, folder, bounds, patience_s
        self._slots = threading.BoundedSemaphore(slots)

    def page(self, question: Question, after: Cursor | None, limit: int) -> Page:
        """Rows by time, device, epoch and number; groups by their keys. What is stored while somebody pages is met where it belongs.
        Raises BadRequest (its code too-slow, where that is so), TooLarge, Unavailable."""
        if question.source() is Source.MINUTES:
            items = [*chain.from_iterable(minutes.groups(self._engine, question, after, limit + 1, self._bounds.max_s))]
        else:
            items = self._retried(lambda: self._rows(question, after, limit + 1))
        more = len(items) > limit
        return Page(items[:limit], _cursor(question, items[limit - 1]).text() if more else None)

    def batches(self, question: Question) -> Iterator["pa.RecordBatch"]:
        """Everything, as Arrow record batches, of which the first is empty and shows the schema. Raises as `page` does, and TooLarge before the
        first batch for more than limits.MAX_EXPORT_ROWS rows."""
        bounds = replace(self._bounds, max_s=_EXPORT_TIMES * self._bounds.max_s)
        if question.source() is Source.MINUTES:
            yield from _minute_batches(minutes.groups(self._engine, question, None, None, bounds.max_s), question)
            return
        with self._opened(files.needed(self._engine, question), bounds) as connection:
            if not question.group_by:
                _refuse_too_many(connection, question)
            wanted = statement.export(question)
            yield from formats.begun(connection.sql(wanted.sql, params=wanted.parameters).to_arrow_reader(_BATCH_ROWS))

    def _rows(self, question: Question, after: Cursor | None, limit: int) -> list[dict[str, Any]]:
        listed = files.needed(self._engine, question, after)
        if question.group_by:
            return self._ask(listed, statement.page(question, after, limit))
        found: list[dict[str, Any]] = []
        for spell in files.spells(listed):
            found += self._ask(spell, statement.page(question, after, limit - len(found)))
            if len(found) == limit:
                break
        return [row | {"detail": None if row["detail"] is None else msgspec.json.decode(row["detail"])} for row in found]

    def _ask(self, listed: Sequence[Listed], wanted: Statement) -> list[dict[str, Any]]:
        with self._opened(listed, self._bounds) as connection:
            return connection.sql(wanted.sql, params=wanted.parameters).to_arrow_table().to_pylist()

    @contextmanager
    def _opened(self, listed: Sequence[Listed], bounds: Bounds) -> Iterator:
        if not self._slots.acquire(timeout=self._patience_s):
            raise Unavailable("too many queries are being answered: try again", field="query")
        try:
            with tempfile.TemporaryDirectory(prefix="edgefleet-query-") as spill:
                paths = [self._folder / file.path for file in listed]
                with duck.opened(paths, bounds, Path(spill)) as connection:
                    yield connection
        finally:
            self._slots.release()

    def _retried(self, ask) -> Any:
        """A file that was merged away since it was listed is listed no more."""
        for _ in range(_TRIES - 1):
            try:
                return ask()
            except FileGone:
                continue
        return ask()


def _refuse_too_many(connection, question: Question) -> None:
    wanted = statement.count(question)
    ((rows,),) = connection.execute(wanted.sql, wanted.parameters).fetchall()
    if rows > limits.MAX_EXPORT_ROWS:
        raise TooLarge(f"{rows} rows, at most {limits.MAX_EXPORT_ROWS} at once: ask for less", field="since", limit=limits.MAX_EXPORT_ROWS)


def _cursor(question: Question, last: dict[str, Any]) -> Cursor:
    if not question.group_by:
        return Cursor((microseconds(last["at"]), last["device"], last["epoch"], last["seq"]))
    return Cursor(tuple(microseconds(last[key]) // 1_000_000 if key in STEP_S else last[key] for key in question.group_by))


def _minute_batches(parts: Iterator[list[dict[str, Any]]], question: Question) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa

    schema = _group_schema(question)
    for part in chain([[]], parts):
        yield pa.RecordBatch.from_pylist(part, schema)


def _group_schema(question: Question) -> "pa.Schema":
    import pyarrow as pa

    keys = [(key.value, pa.timestamp("us", "UTC") if key in STEP_S else pa.string()) for key in question.group_by]
    whole, real = pa.int64(), pa.float64()
    means = {"value_mean": real, "value_min": real, "value_max": real, "latency_us_mean": real}
    return pa.schema([*keys, ("inputs", whole), ("abstained", whole), *means.items(), ("latency_us_max", whole)])
