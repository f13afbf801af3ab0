"""Can this status be stored? And what of it is news? Pure."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from fleet_contract import limits, names
from fleet_contract.errors import BadName
from fleet_contract.messages import DROP_REASONS, LaneLedger, Status
from fleet_server.domain.records import is_count, is_word
from fleet_server.errors import BadRequest

OTHER = "other"


def check(status: Status) -> None:
    """Raises BadRequest for impossible values."""
    try:
        names.name(status.epoch, "epoch")
    except BadName as error:
        if status.online:
            raise BadRequest(str(error), field="epoch") from error
    if len(instance(status)) > limits.MAX_NAME_CHARS:
        raise BadRequest("the instance of the status is too long", field="instance", limit=limits.MAX_NAME_CHARS)
    counts = [status.order_counter, status.inputs, *status.refused.values()]
    words = [instance(status), status.agent_version, status.phase, status.bundle or "", status.bundle_version or "", status.error or ""]
    words += [status.shadow or "", *status.refused]
    for said in status.ledger.values():
        counts += _counts(said)
        words += said.dropped
    if not all(map(is_count, counts)):
        raise BadRequest("a count of the status is out of range", field="status")
    if not all(map(is_word, words)):
        raise BadRequest("a text of the status is too long or has a NUL", field="status")


def instance(status: Status) -> str:
    """Empty where an agent names none."""
    return "" if status.instance is msgspec.UNSET else status.instance


def observed(status: Status) -> dict[str, Any]:
    """By column of the devices, what a device that is there says of itself; `refused` as JSON."""
    return {
        "epoch": status.epoch,
        "agent_version": status.agent_version,
        "phase": status.phase,
        "bundle": status.bundle,
        "bundle_version": status.bundle_version,
        "shadow": status.shadow or None,
        "order_counter": status.order_counter,
        "inputs": status.inputs,
        "refused": json.dumps(status.refused),
        "error": status.error,
        "heartbeat_s": 0 if status.heartbeat_s is msgspec.UNSET else status.heartbeat_s,
    }


def reported(said: LaneLedger) -> dict[str, Any]:
    """By column of the streams, what a device says of one lane; `dropped` as JSON, in which OTHER counts for all reasons that nobody knows."""
    oldest = None if said.oldest is msgspec.UNSET else said.oldest
    counts = {"produced": said.produced, "acknowledged": said.acknowledged, "queued": said.queued}
    return {**counts, "dropped": json.dumps(_known(said.dropped)), "oldest": oldest}


def _known(dropped: Mapping[str, int]) -> dict[str, int]:
    known = {reason: count for reason, count in dropped.items() if reason in DROP_REASONS}
    others = sum(dropped.values()) - sum(known.values())
    return known | ({OTHER: others} if others else {})


def is_news(values: Mapping[str, Any], row: object) -> bool:
    return any(getattr(row, name) != value for name, value in values.items())


def _counts(said: LaneLedger) -> list[int]:
    oldest = [] if said.oldest is msgspec.UNSET else [said.oldest]
    return [said.produced, said.acknowledged, said.queued, *said.dropped.values(), *oldest]
