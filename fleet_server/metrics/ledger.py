"""produced = stored + queued + dropped, by lane."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy import ColumnElement, Connection, Float, String, case, cast, func, select

from fleet_contract.messages import Lane
from fleet_server.domain import ledger
from fleet_server.metrics.families import counters, gauge, gauges
from fleet_server.tables.stream import Stream

_SUMMED = ("produced", "queued", "stored", "malformed", "bytes")
_LANES = tuple(lane.value for lane in Lane)
_PLAIN = (cast(Stream.dropped, String) == "{}") & (Stream.excused == 0)


def families(connection: Connection) -> Iterator[Metric]:
    sums, dropped, lost = _sums(connection)

    def by_lane(name: str) -> list[tuple[tuple[str], float]]:
        return [((lane,), sums[name, lane]) for lane in _LANES]

    yield counters("edgefleet_records_stored", "Records stored, each once", ("lane",), by_lane("stored"))
    yield counters("edgefleet_records_malformed", "Records that could not be read", ("lane",), by_lane("malformed"))
    yield counters("edgefleet_records_bytes", "Bytes of records stored, as they came", ("lane",), by_lane("bytes"))
    yield counters("edgefleet_ledger_produced_records", "Records that devices say they made", ("lane",), by_lane("produced"))
    yield gauges("edgefleet_ledger_queued_records", "Records that devices say they hold", ("lane",), by_lane("queued"))
    yield counters("edgefleet_ledger_dropped_records", "Records that devices gave up, and why", ("lane", "reason"), sorted(dropped.items()))
    yield gauge("edgefleet_ledger_lost_records", "Records produced but neither stored, queued nor dropped", lost)


def _sums(connection: Connection) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], int]:
    """Columns by lane, what was dropped by lane and reason, and what is lost. The database adds up; only streams with drops, or with
    what is excused, are looked at here."""
    sums: Counter[tuple[str, str]] = Counter()
    dropped: Counter[tuple[str, str]] = Counter()
    lost = 0
    totals = [_total(getattr(Stream, name)).label(name) for name in _SUMMED]
    whole = _total(case((_PLAIN, _lost()), else_=0)).label("lost")
    for row in connection.execute(select(Stream.lane, *totals, whole).group_by(Stream.lane)):
        sums.update({(name, row.lane): int(getattr(row, name)) for name in _SUMMED})
        lost += int(row.lost)
    columns = (Stream.lane, Stream.produced, Stream.queued, Stream.dropped, Stream.acknowledged, Stream.stored, Stream.excused)
    for row in connection.execute(select(*columns).where(~_PLAIN)).mappings():
        told = {name: row[name] for name in row if name != "lane"}
        dropped.update({(row["lane"], reason): number for reason, number in row["dropped"].items()})
        lost += ledger.balance(**told).lost
    return sums, dropped, lost


def _total(column: ColumnElement[int]) -> ColumnElement[float]:
    """Devices say what they like: SQLite refuses a sum of whole numbers beyond 64 bits."""
    return func.sum(cast(column, Float))


def _lost() -> ColumnElement[int]:
    """domain.ledger.Balance.lost of a stream that dropped nothing, and of which nothing is excused."""
    difference, missing = Stream.produced - Stream.stored - Stream.queued, Stream.acknowledged - Stream.stored
    return case((difference >= missing, case((difference > 0, difference), else_=0)), else_=case((missing > 0, missing), else_=0))
