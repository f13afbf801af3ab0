"""All families of one fleet, read when they are asked for."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from fleet_server.fleet import Fleet
from fleet_server.metrics import devices, intake, ledger
from fleet_server.metrics.families import counters, gauge, gauges
from fleet_server.tables.database import reading


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
        now = self._fleet.now()
        with reading(self._fleet.engine) as connection:
            yield from devices.families(connection, now)
            yield from ledger.families(connection)
            yield from intake.families(connection, now)
        yield from intake.waiting(self._fleet.backlog(), now)
        yield _by_name("edgefleet_ingest", "Messages from devices, by what became of them", "outcome", self._fleet.ingest_counts())
        yield _by_name("edgefleet_api_refusals", "Requests that were refused, by the error's code", "code", self._refusals)
        yield gauge("edgefleet_broker_connected", "1 while connected to the broker", self._fleet.broker.state().connected)
        expiries = ((((role,), at.timestamp())) for role, at in sorted(self._fleet.repository.expiries().items()))
        yield gauges("edgefleet_trust_expiry_timestamp_seconds", "When signed metadata expires, Unix time", ("role",), expiries)


def _by_name(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    return counters(name, text, (label,), (((key,), count) for key, count in sorted(counts.items())))
