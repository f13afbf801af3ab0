"""From the facts of a rollout to the next decision."""

import pytest

from fleet_contract.manifest import RolloutPolicy
from fleet_server.domain import rollout
from fleet_server.domain.rollout import DeviceFacts, DeviceState, RolloutState

POLICY = RolloutPolicy(canaries=1, gate_inputs=50, gate_refused_share=0.05)
CANARY, WAVE, DONE, STOPPED = RolloutState.CANARY, RolloutState.WAVE, RolloutState.DONE, RolloutState.STOPPED


def fact(device: str = "a", state: str = "ordered", **more: object) -> DeviceFacts:
    defaults = {"canary": False, "runs_it": False, "has_previous": True}
    return DeviceFacts(device=device, state=DeviceState(state), **(defaults | more))


def canary(**more: object) -> DeviceFacts:
    return fact("c", canary=True, **more)


REST = fact("r", "pending")


@pytest.mark.parametrize(
    ("facts", "state", "order", "send_back", "reason"),
    [
        pytest.param([fact("c", "pending", canary=True), REST], CANARY, ("c",), (), "does not run", id="only the canary is ordered"),
        pytest.param([canary(), REST], CANARY, (), (), "does not run", id="waits until the canary runs it"),
        pytest.param([canary(runs_it=True, inputs=49), REST], CANARY, (), (), "49 of 50", id="waits for inputs"),
        pytest.param([canary(runs_it=True, inputs=50), REST], WAVE, (), (), "passed", id="the gate passes"),
        pytest.param([canary(runs_it=True, inputs=50, suspicious=True), REST], CANARY, (), (), "clear it", id="suspicious"),
        pytest.param([canary(runs_it=True, inputs=95, refused=5), REST], WAVE, (), (), "passed", id="as many refused as allowed"),
        pytest.param([canary(runs_it=True, inputs=94, refused=6), REST], STOPPED, (), ("c",), "refused 6", id="too many refused"),
        pytest.param([canary(runs_it=True, refused=49), REST], CANARY, (), (), "0 of 50", id="too few seen to judge refusals"),
        pytest.param([canary(failure="update.rejected"), REST], STOPPED, (), ("c",), "update.rejected", id="failure"),
        pytest.param([canary(runs_it=True, drifted=True), REST], STOPPED, (), ("c",), "drift", id="drift on the new bundle"),
        pytest.param(
            [canary(runs_it=True, inputs=50), fact("d", "pending", canary=True)], CANARY, ("d",), (), "d does not", id="every canary"
        ),
    ],
)
def test_canary_phase(facts: list[DeviceFacts], state: RolloutState, order: tuple, send_back: tuple, reason: str) -> None:
    decision = rollout.decide(CANARY, facts, POLICY)
    assert (decision.state, decision.order, decision.send_back) == (state, order, send_back)
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("facts", "state", "order", "send_back"),
    [
        pytest.param([], DONE, (), (), id="nobody to wait for"),
        pytest.param([fact("a", "pending"), fact("b", "pending")], WAVE, ("a", "b"), (), id="all are ordered"),
        pytest.param([fact("a", runs_it=True), fact("b")], WAVE, (), (), id="one is missing"),
        pytest.param([fact("a", runs_it=True), fact("b", absent=True)], DONE, (), (), id="the missing one was long away"),
        pytest.param(
            [fact("a", runs_it=True), fact("b", "pending", absent=True)], WAVE, ("b",), (), id="even an absent one is ordered first"
        ),
        pytest.param([fact("a", absent=True)], WAVE, (), (), id="nobody runs it yet"),
        pytest.param([fact("a", runs_it=True), fact("b", failure="x")], STOPPED, (), ("a", "b"), id="a failure sends all back"),
        pytest.param([fact("a", runs_it=True, drifted=True), fact("b")], STOPPED, (), ("a", "b"), id="drift in the wave"),
        pytest.param(
            [fact("a", runs_it=True, has_previous=False), fact("b", failure="x", has_previous=False)],
            DONE,
            (),
            (),
            id="first bundle: one fails",
        ),
        pytest.param([fact("a", failure="x", has_previous=False)], STOPPED, (), (), id="first bundle: all fail"),
        pytest.param(
            [fact("a", runs_it=True, drifted=True, has_previous=False)], DONE, (), (), id="first bundle: drift is not its failure"
        ),
    ],
)
def test_wave_phase(facts: list[DeviceFacts], state: RolloutState, order: tuple, send_back: tuple) -> None:
    decision = rollout.decide(WAVE, facts, POLICY)
    assert (decision.state, decision.order, decision.send_back) == (state, order, send_back)


@pytest.mark.parametrize("state", [RolloutState.PROPOSED, STOPPED], ids=str)
def test_a_rollout_that_rests_changes_nothing(state: RolloutState) -> None:
    decision = rollout.decide(state, [canary(failure="x"), REST], POLICY)
    assert (decision.state, decision.devices, decision.order, decision.send_back) == (state, {}, (), ())


def test_devices_that_come_late_are_still_noted_after_the_end() -> None:
    assert rollout.decide(DONE, [fact("a", runs_it=True)], POLICY).devices == {"a": DeviceState.ACTIVE}


def test_stopping_leaves_alone_who_was_not_ordered_or_has_nothing_to_go_back_to() -> None:
    facts = [REST, fact("a", runs_it=True), fact("n", has_previous=False), canary(failure="x")]
    decision = rollout.stop(facts, "why")
    assert (decision.state, decision.send_back, decision.devices) == (STOPPED, ("a", "c"), {"c": DeviceState.FAILED})


@pytest.mark.parametrize(
    ("runs", "approved", "state"),
    [
        pytest.param(True, True, CANARY, id="canaries first"),
        pytest.param(False, True, WAVE, id="nothing to compare with"),
        pytest.param(True, False, RolloutState.PROPOSED, id="not approved"),
        pytest.param(False, False, RolloutState.PROPOSED, id="not approved, first"),
    ],
)
def test_first_state(runs: bool, approved: bool, state: RolloutState) -> None:
    assert rollout.first_state(anything_runs=runs, approved=approved) is state


@pytest.mark.parametrize(
    ("online", "others", "canaries", "chosen"),
    [
        pytest.param(["b", "a"], ["0"], 1, ["a"], id="online first"),
        pytest.param(["b"], ["z", "y"], 2, ["b", "y"], id="then the others"),
        pytest.param([], ["z"], 3, ["z"], id="fewer than wanted"),
        pytest.param(["a", "b"], [], 0, ["a"], id="at least one"),
    ],
)
def test_choosing_canaries(online: list[str], others: list[str], canaries: int, chosen: list[str]) -> None:
    assert rollout.choose_canaries(online, others, RolloutPolicy(canaries=canaries)) == chosen
