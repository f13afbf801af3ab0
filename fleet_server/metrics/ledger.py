"""produced = stored + queued + dropped, by lane."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy import Connection, select

from fleet_contract.messages import Lane
from fleet_server.domain import ledger
from fleet_server.metrics.families import counters, gauge, gauges
from fleet_server.tables.stream import Stream

_COLUMNS = ("lane", "produced", "acknowledged", "queued", "dropped", "stored", "malformed", "bytes")
_NAMES = tuple(lane.value for lane in Lane)


def families(connection: Connection) -> Iterator[Metric]:
    sums: Counter[tuple[str, str]] = Counter({(name, lane): 0 for name in _COLUMNS[1:] for lane in _NAMES})
    dropped: Counter[tuple[str, str]] = Counter()
    lost = 0
    for row in connection.execute(select(*(getattr(Stream, name) for name in _COLUMNS))):
        for name in ("produced", "queued", "stored", "malformed", "bytes"):
            sums[name, row.lane] += getattr(row, name)
        dropped.update({(row.lane, reason): number for reason, number in row.dropped.items()})
        counts = {name: getattr(row, name) for name in ("produced", "queued", "dropped", "acknowledged", "stored")}
        lost += ledger.balance(**counts).lost
    for name, text in (
        ("stored", "Records stored, each once"),
        ("malformed", "Records that could not be read"),
        ("bytes", "Bytes of records stored, as they came"),
    ):
        yield counters(f"edgefleet_records_{name}", text, ("lane",), (((lane,), sums[name, lane]) for lane in _NAMES))
    yield counters(
        "edgefleet_ledger_produced_records", "Records that devices say they made", ("lane",), (((n,), sums["produced", n]) for n in _NAMES)
    )
    yield gauges(
        "edgefleet_ledger_queued_records", "Records that devices say they hold", ("lane",), (((n,), sums["queued", n]) for n in _NAMES)
    )
    yield counters("edgefleet_ledger_dropped_records", "Records that devices gave up, and why", ("lane", "reason"), sorted(dropped.items()))
    yield gauge("edgefleet_ledger_lost_records", "Records produced but neither stored, queued nor dropped", lost)
