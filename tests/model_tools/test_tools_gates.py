"""Which models may be released."""

import pytest

from model_tools.gates import Scores, judge, reason
from model_tools.sections import Gates

GATES = Gates(min_accuracy=0.8, max_int8_drop=0.02, min_gain_on_new=0.05, max_loss_on_old=0.02)
FIRST = ["accuracy", "int8-drop"]
FULL = [*FIRST, "loss-on-old", "gain-on-new"]


def scores(old=0.95, drop=0.0, new=0.9, champion_old=0.95, champion_new=0.5) -> Scores:
    return Scores(old, drop, new, champion_old, champion_new)


@pytest.mark.parametrize(
    ("measured", "failed"),
    [
        pytest.param(scores(), [], id="better on new, as good on old"),
        pytest.param(scores(old=0.79, champion_old=0.79), ["accuracy"], id="not good enough"),
        pytest.param(scores(old=0.8, champion_old=0.8), [], id="just good enough"),
        pytest.param(scores(drop=0.03), ["int8-drop"], id="lost by quantizing"),
        pytest.param(scores(drop=0.9 - 0.88), [], id="lost just as much as allowed"),
        pytest.param(scores(drop=-0.01), [], id="won by quantizing"),
        pytest.param(scores(old=0.92), ["loss-on-old"], id="forgot the old"),
        pytest.param(scores(old=0.99), [], id="better on old too"),
        pytest.param(scores(new=0.54), ["gain-on-new"], id="hardly better on new"),
        pytest.param(scores(new=0.4), ["gain-on-new"], id="worse on new"),
        pytest.param(scores(old=0.5, drop=0.1, new=0.1), FULL, id="all at once"),
    ],
)
def test_a_challenger_passes_every_gate_or_is_refused_by_name(measured, failed):
    judged = judge(GATES, measured)
    assert [gate.name for gate in judged] == FULL
    assert [gate.name for gate in judged if not gate.passed] == failed


@pytest.mark.parametrize(
    ("measured", "names"),
    [
        pytest.param(scores(champion_old=None, champion_new=None, new=None), FIRST, id="a first model"),
        pytest.param(scores(champion_new=None, new=None), FULL[:3], id="a challenger without new labels"),
    ],
)
def test_only_what_was_measured_is_judged(measured, names):
    assert [gate.name for gate in judge(GATES, measured)] == names


def test_the_reason_names_every_failed_rule_with_value_and_limit():
    told = reason(judge(GATES, scores(old=0.92, new=0.52)))
    assert "0.030, at most 0.020" in told
    assert "0.020, at least 0.050" in told


def test_the_reason_of_an_accepted_model():
    assert reason(judge(GATES, scores())) == "all 4 gates passed"
