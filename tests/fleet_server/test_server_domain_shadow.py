"""From the facts of a shadow to the next decision."""

import pytest

from fleet_server.domain import shadow
from fleet_server.domain.rollout import DeviceState, RolloutState
from fleet_server.domain.shadow import ShadowFacts

GATE = 50
SHADOW, DONE, STOPPED = RolloutState.SHADOW, RolloutState.DONE, RolloutState.STOPPED


def fact(device: str = "a", state: str = "ordered", **more: object) -> ShadowFacts:
    return ShadowFacts(device=device, state=DeviceState(state), **({"ready": True} | more))


@pytest.mark.parametrize(
    ("facts", "state", "changes", "order", "reason"),
    [
        pytest.param([fact(state="pending")], SHADOW, {"a": "ordered"}, ("a",), "a has compared 0 of 50", id="it is ordered"),
        pytest.param([fact(state="pending", ready=False)], SHADOW, {}, (), "a has compared 0 of 50", id="once it runs what it shall"),
        pytest.param([fact(compared=49)], SHADOW, {}, (), "a has compared 49 of 50", id="it has not seen enough"),
        pytest.param([fact(compared=50)], DONE, {"a": "compared"}, (), "every device", id="it has"),
        pytest.param([fact(compared=50), fact("b", compared=3)], SHADOW, {"a": "compared"}, (), "b has compared 3", id="one has, one not"),
        pytest.param(
            [fact(state="compared", compared=50), fact("b", compared=50)], DONE, {"b": "compared"}, (), "every", id="the last one"
        ),
        pytest.param([fact(compared=50), fact("b", failure="x")], STOPPED, {"b": "failed"}, (), "device b reports x", id="one refuses it"),
        pytest.param([fact(failure="x", compared=50)], STOPPED, {"a": "failed"}, (), "a reports x", id="one refuses it after all"),
        pytest.param([fact(state="pending", failure="x")], SHADOW, {"a": "ordered"}, ("a",), "0 of 50", id="what came before says nothing"),
        pytest.param([], DONE, {}, (), "every device", id="nobody is left"),
    ],
)
def test_shadow_phase(facts: list[ShadowFacts], state: RolloutState, changes: dict, order: tuple, reason: str) -> None:
    decision = shadow.decide(facts, GATE)
    assert (decision.state, decision.devices, decision.order, decision.send_back) == (state, changes, order, ())
    assert reason in decision.reason
