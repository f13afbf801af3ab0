"""What processes beside the API count of their own work, by way of the database, so that a worker on another machine is seen too."""

import bisect
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import accumulate

import msgspec
from sqlalchemy import Connection, Engine, delete, select

from fleet_server.tables.database import upsert, writing
from fleet_server.tables.figures import ProcessFigures

EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SILENT_S = 30.0
"""A process that has written nothing for so long is not running."""
FORGOTTEN_S = 24 * 3600.0


class Durations(msgspec.Struct):
    """A histogram of seconds: `counts` has one number an edge, and one for what was longer. Not thread-safe."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(EDGES_S) + 1))
    total_s: float = 0.0

    def note(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(EDGES_S, seconds)] += times
        self.total_s += seconds * times

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        return list(zip((*map(str, EDGES_S), "+Inf"), map(float, accumulate(self.counts)), strict=True))


class IngestFigures(msgspec.Struct, tag="ingest"):
    """Since the worker's start. `rows` are as many as the batches say; `slowed_s` is how long acknowledgements were held back because the inbox was
    full; `refused` counts messages without an acknowledgement by reason; `acknowledged` is from the arrival of a message to its acknowledgement."""

    messages: int = 0
    rows: int = 0
    bytes: int = 0
    commits: int = 0
    slowed_s: float = 0.0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    acknowledged: Durations = msgspec.field(default_factory=Durations)


class CompactorFigures(msgspec.Struct, tag="compactor"):
    """Since the compactor's start. `turns` times whole turns, those with nothing to do left out; `lag_s` is the age of the oldest message that it has
    not taken; `merges` and `expired` count lake files, `duplicates` records that were stored before."""

    segments: int = 0
    rows: int = 0
    duplicates: int = 0
    malformed: int = 0
    merges: int = 0
    expired: int = 0
    lag_s: float = 0.0
    turns: Durations = msgspec.field(default_factory=Durations)


Figures = IngestFigures | CompactorFigures


def publish(engine: Engine, name: str, figures: Figures, now: datetime) -> None:
    """Write them down under the process' own name: each second or two, from no thread that anybody waits for. Raises OperationalError."""
    content = msgspec.to_builtins(figures)
    row = {"name": name, "kind": content.pop("type"), "at": now, "content": content}
    update = {field: (lambda refused, field=field: refused[field]) for field in ("kind", "at", "content")}
    with writing(engine) as connection:
        connection.execute(upsert(connection, ProcessFigures, ["name"], update), row)
        connection.execute(delete(ProcessFigures).where(ProcessFigures.at < now - timedelta(seconds=FORGOTTEN_S)))


def running(connection: Connection, now: datetime) -> Mapping[str, Figures]:
    """Of the processes that have not fallen silent, by name."""
    fresh = select(ProcessFigures).where(ProcessFigures.at > now - timedelta(seconds=SILENT_S)).order_by(ProcessFigures.name)
    return {row.name: msgspec.convert({"type": row.kind, **row.content}, Figures) for row in connection.execute(fresh)}
