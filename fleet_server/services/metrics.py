"""The fleet's numbers for Prometheus, read from the database when they are asked for."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from fleet_server.domain import presence
from fleet_server.fleet import Fleet
from fleet_server.services import streams
from fleet_server.tables.database import reading
from fleet_server.tables.device import Device
from fleet_server.tables.finding import Finding
from fleet_server.tables.job import Job
from fleet_server.tables.rollout import Rollout
from fleet_server.tables.stream import Stream


def registry_for(fleet: Fleet, refusals: Mapping[str, int]) -> CollectorRegistry:
    """A registry of its own, holding nothing but this fleet. `refusals` are the API's, by code, as they are when it is asked."""
    registry = CollectorRegistry()
    registry.register(_FleetCollector(fleet, refusals))
    return registry


class _FleetCollector(Collector):
    def __init__(self, fleet: Fleet, refusals: Mapping[str, int]) -> None:
        self._fleet, self._refusals = fleet, refusals

    def describe(self) -> Iterable[Metric]:
        """Registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        with reading(self._fleet.engine) as connection:
            yield from _devices(connection, self._fleet)
            yield from _records(connection)
            yield _by_state(connection, Job, "edgefleet_jobs", "Retraining jobs by state")
            yield _by_state(connection, Rollout, "edgefleet_rollouts", "Rollouts by state")
            yield _by_state(connection, Finding, "edgefleet_findings", "Drift findings by state")
        yield _lost(self._fleet)
        yield _by_name("edgefleet_ingest", "Messages from devices, by what became of them", "outcome", self._fleet.ingest_counts())
        yield _by_name("edgefleet_api_refusals", "Requests that were refused, by the error's code", "code", self._refusals)
        yield _broker(self._fleet)
        yield _expiries(self._fleet)


def _devices(connection: Connection, fleet: Fleet) -> Iterator[Metric]:
    rows = list(connection.execute(select(Device.online, Device.last_seen, Device.quarantined_at)))
    online = sum(presence.is_online(row.online, row.last_seen, fleet.now()) for row in rows)
    yield GaugeMetricFamily("edgefleet_devices", "Devices enrolled", value=len(rows))
    yield GaugeMetricFamily("edgefleet_devices_online", "Devices online", value=online)
    apart = sum(row.quarantined_at is not None for row in rows)
    yield GaugeMetricFamily("edgefleet_devices_quarantined", "Devices set apart, for a cloned key or by hand", value=apart)


def _records(connection: Connection) -> Iterator[Metric]:
    stored = CounterMetricFamily("edgefleet_records_stored", "Records stored, each once", labels=["lane"])
    malformed = CounterMetricFamily("edgefleet_records_malformed", "Records that could not be read", labels=["lane"])
    sums = select(Stream.lane, func.sum(Stream.stored).label("stored"), func.sum(Stream.malformed).label("malformed"))
    for row in connection.execute(sums.group_by(Stream.lane).order_by(Stream.lane)):
        stored.add_metric([row.lane], float(row.stored))
        malformed.add_metric([row.lane], float(row.malformed))
    yield stored
    yield malformed


def _by_state(connection: Connection, table: type[Job] | type[Rollout] | type[Finding], name: str, text: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in connection.execute(select(table.state, func.count()).group_by(table.state).order_by(table.state)):
        family.add_metric([state], count)
    return family


def _lost(fleet: Fleet) -> Metric:
    missing = sum(line.lost for line in streams.lines(fleet.engine))
    return GaugeMetricFamily("edgefleet_ledger_lost_records", "Records produced but neither stored, queued nor dropped", value=missing)


def _by_name(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], count)
    return family


def _broker(fleet: Fleet) -> Metric:
    return GaugeMetricFamily("edgefleet_broker_connected", "1 while connected to the broker", value=float(fleet.broker.state().connected))


def _expiries(fleet: Fleet) -> Metric:
    family = GaugeMetricFamily("edgefleet_trust_expiry_timestamp_seconds", "When signed metadata expires, Unix time", labels=["role"])
    for role, at in sorted(fleet.repository.expiries().items()):
        family.add_metric([role], at.timestamp())
    return family
