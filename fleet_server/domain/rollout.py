"""From the facts of a rollout to what to do next. Pure.

proposed -> canary -> wave -> done, or stopped from any of them. A gate looks at how the model behaves on the canaries, not only at whether it
installed. A rollout that finds no device of its task running anything has nothing to fall back to, and goes to all at once.
"""

from dataclasses import dataclass
from enum import StrEnum

from fleet_contract.manifest import RolloutPolicy


class RolloutState(StrEnum):
    PROPOSED = "proposed"
    CANARY = "canary"
    WAVE = "wave"
    SHADOW = "shadow"
    """Its devices run the bundle beside their own: see fleet_server.domain.shadow."""
    DONE = "done"
    STOPPED = "stopped"


ACTIVE = (RolloutState.CANARY, RolloutState.WAVE, RolloutState.SHADOW)


class DeviceState(StrEnum):
    PENDING = "pending"
    ORDERED = "ordered"
    ACTIVE = "active"
    COMPARED = "compared"
    """Of a shadow: it has seen enough inputs."""
    FAILED = "failed"


@dataclass(frozen=True)
class DeviceFacts:
    """`runs_it` is whether the device reports the rollout's bundle as its active one; `inputs` and `refused` count since it was ordered;
    `suspicious` means that its newest windows on this bundle have begun to look drifted, but not yet long enough for a finding."""

    device: str
    state: DeviceState
    canary: bool
    runs_it: bool
    has_previous: bool
    absent: bool = False
    failure: str | None = None
    drifted: bool = False
    suspicious: bool = False
    inputs: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Decision:
    """`devices` are changes of device states; `order` names those to be given the bundle now, `send_back` those to be given their previous one."""

    state: RolloutState
    reason: str
    devices: dict[str, DeviceState]
    order: tuple[str, ...] = ()
    send_back: tuple[str, ...] = ()


def decide(state: RolloutState, facts: list[DeviceFacts], policy: RolloutPolicy) -> Decision:
    """The next step of a rollout. Deciding again on the same facts changes nothing."""
    if state is RolloutState.CANARY:
        return _canary(facts, policy)
    if state is RolloutState.WAVE:
        return _wave(facts)
    if state is RolloutState.DONE:
        return Decision(state, "", _settled(facts))
    return Decision(state, "", {})


def stop(facts: list[DeviceFacts], reason: str) -> Decision:
    """Stop, and send back every device that was ordered and has something to go back to."""
    ordered = [fact for fact in facts if fact.state is not DeviceState.PENDING]
    failed = {fact.device: DeviceState.FAILED for fact in ordered if fact.failure or fact.drifted}
    back = tuple(fact.device for fact in ordered if fact.has_previous)
    return Decision(RolloutState.STOPPED, reason, failed, send_back=back)


def first_state(*, anything_runs: bool, approved: bool, shadow: bool = False) -> RolloutState:
    if not approved:
        return RolloutState.PROPOSED
    if shadow:
        return RolloutState.SHADOW
    return RolloutState.CANARY if anything_runs else RolloutState.WAVE


def choose_canaries(online: list[str], others: list[str], policy: RolloutPolicy) -> list[str]:
    """The first by name, those that are there before those that are not; at least one."""
    return (sorted(online) + sorted(others))[: max(1, policy.canaries)]


def _canary(facts: list[DeviceFacts], policy: RolloutPolicy) -> Decision:
    canaries = [fact for fact in facts if fact.canary]
    broken = next((reason for fact in canaries if (reason := _breach(fact, policy))), None)
    if broken:
        return stop(facts, broken)
    waiting = next((reason for fact in canaries if (reason := _awaited(fact, policy))), None)
    changes = _settled(facts)
    unordered = tuple(fact.device for fact in canaries if fact.state is DeviceState.PENDING)
    if waiting:
        changes.update(dict.fromkeys(unordered, DeviceState.ORDERED))
        return Decision(RolloutState.CANARY, waiting, changes, order=unordered)
    return Decision(RolloutState.WAVE, "the canaries passed the gate", changes)


def _wave(facts: list[DeviceFacts]) -> Decision:
    bad = [fact for fact in facts if fact.state is not DeviceState.PENDING and (fact.failure or (fact.drifted and fact.has_previous))]
    fallen = next((fact for fact in bad if fact.has_previous), None)
    if fallen:
        return stop(facts, _why(fallen))
    changes = _settled(facts) | {fact.device: DeviceState.FAILED for fact in bad}
    pending = tuple(fact.device for fact in facts if fact.state is DeviceState.PENDING)
    changes.update(dict.fromkeys(pending, DeviceState.ORDERED))
    if facts and len(bad) == len(facts):
        return Decision(RolloutState.STOPPED, _why(bad[0]), changes)
    missing = [f.device for f in facts if not f.runs_it and f not in bad and not (f.absent and f.state is not DeviceState.PENDING)]
    reached = not facts or any(fact.runs_it for fact in facts)
    if reached and not missing:
        return Decision(RolloutState.DONE, "every device that is there runs it", changes, order=pending)
    return Decision(RolloutState.WAVE, f"waiting for {', '.join(sorted(missing)[:5]) or 'the first device'}", changes, order=pending)


def _settled(facts: list[DeviceFacts]) -> dict[str, DeviceState]:
    return {fact.device: DeviceState.ACTIVE for fact in facts if fact.runs_it and fact.state is DeviceState.ORDERED}


def _breach(fact: DeviceFacts, policy: RolloutPolicy) -> str | None:
    """Why this canary fails the gate for good."""
    if fact.failure or fact.drifted:
        return _why(fact)
    seen = fact.inputs + fact.refused
    if seen >= policy.gate_inputs and fact.refused > policy.gate_refused_share * seen:
        return f"canary {fact.device} refused {fact.refused} of {seen} inputs, more than a share of {policy.gate_refused_share}"
    return None


def _awaited(fact: DeviceFacts, policy: RolloutPolicy) -> str | None:
    """What this canary still has to show."""
    if not fact.runs_it:
        return f"canary {fact.device} does not run the bundle yet"
    if fact.inputs < policy.gate_inputs:
        return f"canary {fact.device} has {fact.inputs} of {policy.gate_inputs} inputs"
    if fact.suspicious:
        return f"the newest window of canary {fact.device} looks drifted: one more must clear it"
    return None


def _why(fact: DeviceFacts) -> str:
    if fact.failure:
        return f"device {fact.device} reports {fact.failure}"
    return f"drift on device {fact.device} under the new bundle"
