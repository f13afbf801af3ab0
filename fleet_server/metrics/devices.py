"""How many devices, jobs, rollouts, findings and alerts there are, and how they stand."""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import Metric
from sqlalchemy import Connection, func, select

from fleet_server.domain import presence
from fleet_server.domain.alerts import Kind
from fleet_server.metrics.families import gauge, gauges
from fleet_server.tables.alert import Alert
from fleet_server.tables.device import Device
from fleet_server.tables.finding import Finding
from fleet_server.tables.job import Job
from fleet_server.tables.rollout import Rollout

_STANDING = (Device.online, Device.last_seen, Device.heartbeat_s, Device.quarantined_at, Device.throttled_until)


def families(connection: Connection, now: datetime) -> Iterator[Metric]:
    rows = list(connection.execute(select(*_STANDING)))
    online = sum(presence.is_online(row.online, row.last_seen, now, row.heartbeat_s) for row in rows)
    apart = sum(row.quarantined_at is not None for row in rows)
    throttled = sum(row.throttled_until is not None and row.throttled_until > now for row in rows)
    yield gauge("edgefleet_devices", "Devices enrolled", len(rows))
    yield gauge("edgefleet_devices_online", "Devices online", online)
    yield gauge("edgefleet_devices_quarantined", "Devices set apart, for a cloned key or by hand", apart)
    yield gauge("edgefleet_devices_throttled", "Devices kept out for a while because they sent too much", throttled)
    yield _by_state(connection, Job, "edgefleet_jobs", "Retraining jobs by state")
    yield _by_state(connection, Rollout, "edgefleet_rollouts", "Rollouts by state")
    yield _by_state(connection, Finding, "edgefleet_findings", "Drift findings by state")
    yield _alerts(connection)


def _alerts(connection: Connection) -> Metric:
    """Every kind, also those of which none is open: an alarm on nothing would not close."""
    counted = select(Alert.kind, func.count()).where(Alert.closed_at.is_(None)).group_by(Alert.kind)
    found = dict(connection.execute(counted).all())
    samples = (((kind.value,), found.get(kind.value, 0)) for kind in Kind)
    return gauges("edgefleet_alerts_open", "What is wrong with devices just now, by kind", ("kind",), samples)


def _by_state(connection: Connection, table: type[Job] | type[Rollout] | type[Finding], name: str, text: str) -> Metric:
    counted = select(table.state, func.count()).group_by(table.state).order_by(table.state)
    return gauges(name, text, ("state",), (((state,), number) for state, number in connection.execute(counted)))
