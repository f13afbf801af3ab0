"""Shadows as devices tell of them: what a rollout that is one knows, orders and shows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from fleet_server.domain.records import is_count
from fleet_server.domain.rollout import DeviceState
from fleet_server.domain.shadow import ShadowFacts
from fleet_server.services import rollout_facts
from fleet_server.tables.bulk import change, instants
from fleet_server.tables.device import Device
from fleet_server.tables.event import Event
from fleet_server.tables.rollout import RolloutDevice

COMPARED = "shadow.compared"
_FAILURES = ("update.rejected", "shadow.refused", "order.rejected")
_UNREADABLE = "bad-order"
"""What an agent that is too old for shadows makes of such an order."""
_IDLE = "idle"


@dataclass(frozen=True)
class Compared:
    """Of one device: inputs that both bundles answered, how many of them alike, and inputs that the shadow missed. Latencies are means of requests."""

    inputs: int = 0
    agreed: int = 0
    missed: int = 0
    latency_us: float = 0.0
    candidate_latency_us: float = 0.0

    @property
    def agreement(self) -> float | None:
        return self.agreed / self.inputs if self.inputs else None


def facts(connection: Connection, rollout: Row, each_device: list[Row]) -> list[ShadowFacts]:
    wanted = select(Device.id, Device.bundle, Device.desired_bundle, Device.phase)
    known = {row.id: row for row in connection.execute(wanted.where(Device.task == rollout.task, Device.quarantined_at.is_(None)))}
    told, failures = _told(connection, rollout), _failures(connection, rollout)
    return [
        _fact(each, known[each.device], failures.get(each.device), _compared(told.get(each.device, [])))
        for each in each_device
        if each.device in known
    ]


def order(connection: Connection, rollout: Row, devices: Sequence[str], now: datetime) -> None:
    asked = {"rollout": [rollout.id] * len(devices), "device": devices, "ordered_at": instants(connection, [now] * len(devices))}
    change(connection, RolloutDevice, asked, keys=["rollout", "device"])
    change(connection, Device, {"id": devices, "shadow_rollout": [rollout.id] * len(devices)}, keys=["id"])


def end(connection: Connection, rollout: Row) -> None:
    """From now on its devices' orders are plain ones for what they run."""
    connection.execute(update(Device).where(Device.shadow_rollout == rollout.id).values(shadow_rollout=None))


def compared(connection: Connection, rollout: Row, each_device: list[Row]) -> dict[str, dict[str, Any]]:
    """By device, what was told of the rollout's bundle from its order to the rollout's end."""
    told = _told(connection, rollout)
    found = {each.device: _compared(told.get(each.device, [])) for each in each_device if each.ordered_at is not None}
    return {device: asdict(figures) | {"agreement": figures.agreement} for device, figures in found.items()}


def _fact(mine: Row, device: Row, failure: str | None, figures: Compared) -> ShadowFacts:
    runs = device.bundle is not None and device.bundle == device.desired_bundle
    asked = mine.ordered_at is not None
    return ShadowFacts(
        device=device.id,
        state=DeviceState(mine.state),
        ready=runs and device.phase == _IDLE,
        failure=(failure or (None if runs else "that it runs its own bundle no more")) if asked else None,
        compared=figures.inputs if asked else 0,
    )


def _failures(connection: Connection, rollout: Row) -> dict[str, str]:
    """The first of each device since its order."""
    found: dict[str, str] = {}
    for event in connection.execute(rollout_facts.since(rollout, _FAILURES, RolloutDevice.ordered_at)):
        if event.detail.get("sha256") == rollout.bundle or event.detail.get("code") == _UNREADABLE:
            told = f"{event.kind} {event.detail.get('code', '')}: {event.detail.get('message', '')}".rstrip(" :")
            found.setdefault(event.device, told)
    return found


def _told(connection: Connection, rollout: Row) -> dict[str, list[dict[str, Any]]]:
    """What each device told of the rollout's bundle."""
    wanted = rollout_facts.since(rollout, (COMPARED,), RolloutDevice.ordered_at)
    if rollout.ended_at is not None:
        wanted = wanted.where(Event.received_at <= rollout.ended_at)
    found: dict[str, list[dict[str, Any]]] = {}
    for event in connection.execute(wanted):
        if event.detail.get("candidate") == rollout.bundle:
            found.setdefault(event.device, []).append(event.detail)
    return found


def _compared(details: list[dict[str, Any]]) -> Compared:
    inputs = sum(_count(detail, "inputs") for detail in details)
    return Compared(
        inputs=inputs,
        agreed=min(inputs, sum(_count(detail, "agreed") for detail in details)),
        missed=sum(_count(detail, name) for detail in details for name in detail if name.startswith("missed.")),
        latency_us=_mean(details, "latency_us", inputs),
        candidate_latency_us=_mean(details, "candidate_latency_us", inputs),
    )


def _mean(details: list[dict[str, Any]], name: str, inputs: int) -> float:
    """Weighed by the inputs that each was told of."""
    return sum(_count(detail, name) * _count(detail, "inputs") for detail in details) / max(1, inputs)


def _count(detail: dict[str, Any], name: str) -> int:
    """A device may tell anything."""
    value = detail.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and is_count(value) else 0
