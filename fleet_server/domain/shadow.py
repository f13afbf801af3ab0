"""From the facts of a shadow to what to do next. Pure.

All its devices run the bundle beside their own, which goes on answering, until each has compared enough inputs; what follows from the figures is for a
person, or another rollout, to say. One device that cannot run it ends it for all.
"""

from dataclasses import dataclass

from fleet_server.domain.rollout import Decision, DeviceState, RolloutState


@dataclass(frozen=True)
class ShadowFacts:
    """`ready`: it runs what is wanted of it, and nothing else is under way there. `failure` and `compared` count since it was ordered; `compared` are
    inputs that both bundles answered."""

    device: str
    state: DeviceState
    ready: bool
    failure: str | None = None
    compared: int = 0


def decide(facts: list[ShadowFacts], gate_inputs: int) -> Decision:
    """Deciding again on the same facts changes nothing."""
    ordered = [fact for fact in facts if fact.state is not DeviceState.PENDING]
    failed = [fact for fact in ordered if fact.failure]
    if failed:
        why = f"device {failed[0].device} reports {failed[0].failure}"
        return Decision(RolloutState.STOPPED, why, {fact.device: DeviceState.FAILED for fact in failed})
    enough = {fact.device for fact in ordered if fact.compared >= gate_inputs}
    changes = {fact.device: DeviceState.COMPARED for fact in ordered if fact.device in enough and fact.state is DeviceState.ORDERED}
    order = tuple(fact.device for fact in facts if fact.state is DeviceState.PENDING and fact.ready)
    changes.update(dict.fromkeys(order, DeviceState.ORDERED))
    awaited = sorted((fact for fact in facts if fact.device not in enough), key=lambda fact: fact.device)
    if not awaited:
        return Decision(RolloutState.DONE, f"every device has compared {gate_inputs} inputs", changes)
    first = awaited[0]
    waiting = f"device {first.device} has compared {first.compared} of {gate_inputs} inputs"
    return Decision(RolloutState.SHADOW, waiting, changes, order=order)
