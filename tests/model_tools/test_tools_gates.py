"""Which models may be released."""

import pytest

from model_tools.gates import Scores, judge, reason
from model_tools.sections import Gates

GATES = Gates(min_accuracy=0.8, max_int8_drop=0.02, min_gain_on_new=0.05, max_loss_on_old=0.02)
FIRST = ["accuracy", "int8-drop"]
FULL = [*FIRST, "loss-on-old", "gain-on-new"]


def scores(old=0.95, drop=0.0, new=0.9, champion_old=0.95, champion_new=0.5, rows=1000, recalls=(0.95, 0.95)) -> Scores:
    return Scores(old, drop, rows, recalls, "accuracy", new, champion_old, champion_new)


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
        pytest.param(scores(new=0.98, champion_new=0.96), [], id="half of what was left to be won"),
        pytest.param(scores(new=0.96, champion_new=0.96), ["gain-on-new"], id="nothing of what was left to be won"),
        pytest.param(scores(new=1.0, champion_new=1.0), [], id="nothing was left to be won"),
        pytest.param(scores(new=0.99, champion_new=1.0), ["gain-on-new"], id="worse than a champion without fault"),
        pytest.param(scores(drop=1 / 18, rows=18), [], id="one of few rows lost by quantizing"),
        pytest.param(scores(drop=2 / 18, rows=18), ["int8-drop"], id="two of few rows lost by quantizing"),
        pytest.param(scores(old=0.95 - 2 / 18, rows=18), [], id="two of few old rows forgotten"),
        pytest.param(scores(old=0.95 - 3 / 36, rows=36), ["loss-on-old"], id="three of few old rows forgotten"),
        pytest.param(scores(old=0.5, drop=0.1, new=0.1), FULL, id="all at once"),
    ],
)
def test_a_challenger_passes_every_gate_or_is_refused_by_name(measured, failed):
    judged = judge(GATES, measured)
    assert [gate.name for gate in judged] == FULL
    assert [gate.name for gate in judged if not gate.passed] == failed


@pytest.mark.parametrize(
    ("measured", "failed"),
    [
        pytest.param(Scores(0.9, 0.0, 1000, (0.95, 0.9), "auc", 0.9, 0.93, 0.5), [], id="told more of the new rightly"),
        pytest.param(Scores(0.9, 0.0, 1000, (0.95, 0.9), "auc", 0.5, 0.93, 0.5), ["gain-on-new"], id="calls all of the new odd, as before"),
        pytest.param(
            Scores(0.9, 0.0, 1000, (1.0, 0.7), "auc", 0.9, 0.97, 0.5), ["loss-on-old"], id="a threshold that misses the old anomalies"
        ),
        pytest.param(Scores(0.9, 0.0, 1000, (0.9,), "passed", 0.9, 0.9, 0.4), [], id="normal rows alone"),
    ],
)
def test_detectors_are_compared_by_what_they_tell_at_their_thresholds(measured, failed):
    assert [gate.name for gate in judge(GATES, measured) if not gate.passed] == failed


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


@pytest.mark.parametrize(
    ("recalls", "passed"),
    [
        pytest.param((1.0, 0.0), False, id="always the same answer, however many rows it fits"),
        pytest.param((1.0, 0.25), True, id="a quarter of a rare class is found"),
        pytest.param((0.5, 0.5), False, id="two classes by guessing"),
        pytest.param((0.5, 0.5, 0.5), True, id="three hard classes"),
        pytest.param((0.1,) * 10, False, id="ten classes by guessing"),
        pytest.param((0.2,) * 10, True, id="ten very hard classes"),
    ],
)
def test_without_a_wish_a_model_must_be_better_than_guessing(recalls, passed):
    first = judge(Gates(), scores(old=0.95, recalls=recalls))[0]
    assert (first.name, first.passed) == ("accuracy", passed)
