"""From the broker to the lake: ingest workers, inbox, compactor, files."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from prometheus_client.core import Metric
from sqlalchemy import Connection, func, select

from fleet_contract.instants import microseconds
from fleet_server.inbox.port import Backlog
from fleet_server.metrics.families import counters, durations, gauge, gauges
from fleet_server.services import figures
from fleet_server.services.figures import CompactorFigures, IngestFigures
from fleet_server.tables.lake import LakeFile

_WORKER = ("worker",)


def families(connection: Connection, now: datetime) -> Iterator[Metric]:
    running = figures.running(connection, now)
    yield from _workers({name: told for name, told in running.items() if isinstance(told, IngestFigures)})
    yield from _compactor([told for told in running.values() if isinstance(told, CompactorFigures)])
    yield from _lake(connection)


def waiting(backlog: Backlog, now: datetime) -> Iterator[Metric]:
    yield gauge("edgefleet_inbox_messages", "Messages that wait for the compactor", backlog.messages)
    yield gauge("edgefleet_inbox_bytes", "Bytes of messages that wait for the compactor", backlog.bytes)
    yield gauge(
        "edgefleet_inbox_oldest_seconds", "How long the oldest message has waited for the compactor", backlog.age_s(microseconds(now))
    )


def _workers(workers: Mapping[str, IngestFigures]) -> Iterator[Metric]:
    yield gauge("edgefleet_ingest_workers", "Ingest workers that run", len(workers))
    for name, text in (
        ("messages", "Messages with records that were taken"),
        ("rows", "Records in them"),
        ("bytes", "Bytes of them"),
        ("commits", "Group commits to the inbox"),
    ):
        yield counters(f"edgefleet_ingest_{name}", text, _WORKER, (((at,), getattr(told, name)) for at, told in workers.items()))
    slowed = (((at,), told.slowed_s) for at, told in workers.items())
    yield counters("edgefleet_ingest_slowed_seconds", "Time for which acknowledgements were held back: the inbox was full", _WORKER, slowed)
    refused = (((at, reason), number) for at, told in workers.items() for reason, number in sorted(told.refused.items()))
    yield counters("edgefleet_ingest_refused", "Messages that got no acknowledgement, and why", ("worker", "reason"), refused)
    measured = (((at,), told.acknowledged) for at, told in workers.items())
    yield durations("edgefleet_ingest_acknowledge_seconds", "From the arrival of a message to its acknowledgement", _WORKER, measured)


def _compactor(running: list[CompactorFigures]) -> Iterator[Metric]:
    """There is one, or none."""
    yield gauge("edgefleet_compactor_up", "1 while the compactor runs", len(running))
    for name, text in (
        ("segments", "Commits of the inbox that were taken into the lake"),
        ("rows", "Records that were taken into the lake"),
        ("duplicates", "Records that had been stored before"),
        ("malformed", "Records that could not be read"),
        ("merges", "Merges of small files"),
        ("expired", "Files that retention took away"),
    ):
        yield counters(f"edgefleet_compactor_{name}", text, (), (((), getattr(told, name)) for told in running))
    yield gauges(
        "edgefleet_compactor_lag_seconds", "Age of the oldest message not yet in the lake", (), (((), told.lag_s) for told in running)
    )
    yield durations("edgefleet_compactor_turn_seconds", "Turns of the compactor", (), (((), told.turns) for told in running))


def _lake(connection: Connection) -> Iterator[Metric]:
    sums = select(LakeFile.task, func.count(), func.sum(LakeFile.rows), func.sum(LakeFile.bytes)).where(LakeFile.gone_at.is_(None))
    rows = list(connection.execute(sums.group_by(LakeFile.task).order_by(LakeFile.task)))
    for at, (name, text) in enumerate(
        (("files", "Parquet files of the lake"), ("rows", "Inferences in the lake"), ("bytes", "Bytes of its files")), 1
    ):
        yield gauges(f"edgefleet_lake_{name}", text, ("task",), (((row[0],), row[at]) for row in rows))
