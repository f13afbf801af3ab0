"""Sketch windows: judged by the drift rule as they come, and merged into the condition that a challenger learns."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from fleet_contract.errors import BadSketch
from fleet_contract.manifest import DriftPolicy
from fleet_contract.sketch import Condition, Reference, Sketch, merge
from fleet_server.domain import drift
from fleet_server.domain.drift import Judgement, Verdict
from fleet_server.domain.retraining import FindingState
from fleet_server.services import audit, bundles
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.database import read_page, reading, writing
from fleet_server.tables.device import Device
from fleet_server.tables.finding import Finding
from fleet_server.tables.window import Window

INPUT_ROLE = "input"
_SHOWN_FEATURES = 64
"""Of a window with many features only the most deviating are kept for people to see."""


def judge_new(engine: Engine, now: datetime) -> int:
    """Judge every window that came since; returns how many findings that opened."""
    with reading(engine) as connection:
        new = select(Window.device, Window.bundle).where(Window.verdict.is_(None)).distinct().order_by(Window.device, Window.bundle)
        pairs = [(row.device, row.bundle) for row in connection.execute(new)]
    return sum(_judge_pair(engine, device, bundle, now) for device, bundle in pairs)


def page(engine: Engine, *, device: str | None, after: int, limit: int) -> list[Row]:
    return read_page(engine, select(Window), Window.id, after=after, limit=limit, equal={Window.device: device})


def drifted_condition(connection: Connection, finding: Row) -> Condition:
    """The drifted stream of a finding as a condition on its bundle's grid, speaking for the input features alone: what the model
    made of it is what shall change. Raises BadSketch when no drifted window can be read."""
    reference = bundles.reference_of(connection, finding.bundle)
    drifted = select(Window.sketch).where(
        Window.device == finding.device,
        Window.bundle == finding.bundle,
        Window.verdict == Verdict.DRIFTED.value,
        Window.position > finding.window - _windows_needed(connection, finding.bundle),
    )
    sketches = [msgspec.msgpack.decode(data, type=Sketch) for data in connection.execute(drifted).scalars()]
    if reference is None:
        raise BadSketch(f"bundle {finding.bundle} is not published here", field="bundle")
    features = [feature.name for feature in reference.grid.features if feature.role == INPUT_ROLE]
    return Condition(name=f"drift-{finding.id}", features=features, sketch=merge(sketches, reference.grid))


def _windows_needed(connection: Connection, bundle: str) -> int:
    return bundles.policy_of(connection, bundle).drift.windows


def _judge_pair(engine: Engine, device: str, bundle: str, now: datetime) -> int:
    with writing(engine) as connection:
        mine = (Window.device == device, Window.bundle == bundle)
        new = list(connection.execute(select(Window).where(*mine, Window.verdict.is_(None)).order_by(Window.id)))
        reference = bundles.reference_of(connection, bundle)
        if reference is None:
            unknown = update(Window).where(*mine, Window.verdict.is_(None)).values(verdict=Verdict.UNREADABLE.value)
            connection.execute(unknown)
            return 0
        policy = bundles.policy_of(connection, bundle).drift
        last = connection.execute(
            select(Window.position, Window.streak).where(*mine, Window.position.is_not(None)).order_by(Window.position.desc()).limit(1)
        ).one_or_none()
        position, streak = (last.position, last.streak) if last else (0, 0)
        opened = 0
        for window in new:
            position += 1
            judgement = _judge(window, reference, policy, position)
            streak = drift.streak(streak, judgement.verdict)
            _write(connection, window.id, judgement, position, streak)
            if drift.alarms(streak, policy):
                opened += _open(connection, window, judgement, position, now)
        return opened


def _judge(window: Row, reference: Reference, policy: DriftPolicy, position: int) -> Judgement:
    try:
        return drift.judge(msgspec.msgpack.decode(window.sketch, type=Sketch), reference, policy, position)
    except BadSketch:
        return Judgement(Verdict.UNREADABLE, "", 0.0, ())


def _write(connection: Connection, window: int, judgement: Judgement, position: int, streak: int) -> None:
    values: dict[str, Any] = {
        "verdict": judgement.verdict.value,
        "position": position,
        "streak": streak,
        "closest": judgement.closest,
        "level": judgement.level,
        "features": [asdict(test) for test in judgement.features[:_SHOWN_FEATURES]],
    }
    connection.execute(update(Window).where(Window.id == window).values(**values))


def _open(connection: Connection, window: Row, judgement: Judgement, position: int, now: datetime) -> int:
    """Open a finding, unless the device has one or is to leave this bundle anyway; returns how many were opened."""
    device = connection.execute(select(Device).where(Device.id == window.device)).one()
    unclosed = (Finding.device == window.device, Finding.bundle == window.bundle, Finding.state != FindingState.CLOSED.value)
    if device.desired_bundle != window.bundle or connection.execute(select(func.count()).where(*unclosed)).scalar_one():
        return 0
    worst = judgement.features[0]
    row = {
        "device": window.device,
        "bundle": window.bundle,
        "task": connection.execute(select(Bundle.task).where(Bundle.sha256 == window.bundle)).scalar_one(),
        "feature": worst.feature,
        "effect": worst.effect,
        "p_value": worst.p_value,
        "window": position,
        "inputs_at_detection": window.first_input + window.inputs,
        "detected_at": now,
        "state": FindingState.OPEN.value,
        "reason": f"fits no known condition; {judgement.closest!r} comes closest",
    }
    made = connection.execute(insert(Finding).values(row)).inserted_primary_key[0]
    detail = {"bundle": window.bundle, "feature": worst.feature, "effect": worst.effect, "window": position}
    audit.append(connection, audit.SERVER, "drift.find", f"device:{window.device}", {"finding": made, **detail}, now)
    return 1
