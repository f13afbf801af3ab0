"""The drift rule: quiet on healthy streams for as long as they run, quick on real shifts."""

import numpy as np
import pytest

from fleet_contract.errors import BadSketch
from fleet_contract.manifest import DriftPolicy
from fleet_contract.sketch import Condition, Feature, Grid, Reference
from fleet_server.domain import drift
from fleet_server.domain.drift import Verdict
from tests.fakes.server_bundles import GRID, reference_of, rows, sketch_of

POLICY = DriftPolicy(window_inputs=50, false_alarms=0.01, min_effect=0.25, windows=2)


def alarm_after(reference: Reference, streams: list[np.ndarray], policy: DriftPolicy = POLICY) -> int | None:
    """The position of the window that raises the alarm."""
    streak = 0
    for position, values in enumerate(streams, 1):
        streak = drift.streak(streak, drift.judge(sketch_of(values), reference, policy, position).verdict)
        if drift.alarms(streak, policy):
            return position
    return None


@pytest.mark.parametrize(
    ("centres", "stream", "verdict"),
    [
        pytest.param((0.4,), 0.4, Verdict.HEALTHY, id="fits the only condition"),
        pytest.param((0.4,), 0.6, Verdict.DRIFTED, id="shifted by two deviations"),
        pytest.param((0.4, 0.9), 0.9, Verdict.HEALTHY, id="fits the second condition"),
        pytest.param((0.4, 0.9), 0.65, Verdict.DRIFTED, id="between two conditions"),
    ],
)
def test_a_window_is_healthy_when_it_fits_any_condition(centres: tuple[float, ...], stream: float, verdict: Verdict) -> None:
    window = sketch_of(rows(np.random.default_rng(1), 50, stream))
    assert drift.judge(window, reference_of(*centres), POLICY, 1).verdict is verdict


def test_healthy_devices_stay_quiet_for_their_whole_life() -> None:
    """With the effect threshold off and single windows alarming, the statistics alone must keep the promise."""
    policy = DriftPolicy(window_inputs=50, false_alarms=0.05, min_effect=0.0, windows=1)
    rng = np.random.default_rng(5)
    reference = reference_of(0.4, count=500)
    devices, windows = 60, 60
    alarmed = sum(alarm_after(reference, [rows(rng, 50) for _ in range(windows)], policy) is not None for _ in range(devices))
    assert alarmed / devices <= policy.false_alarms


@pytest.mark.parametrize("onset", [pytest.param(0, id="from the first window"), pytest.param(40, id="after forty healthy windows")])
def test_a_moderate_shift_fires_within_few_windows(onset: int) -> None:
    """A shift of 1.5 standard deviations in windows of fifty inputs."""
    rng = np.random.default_rng(6)
    streams = [rows(rng, 50) for _ in range(onset)] + [rows(rng, 50, 0.55) for _ in range(8)]
    fired = alarm_after(reference_of(0.4), streams)
    assert fired is not None
    assert onset < fired <= onset + 4


def test_a_shift_below_the_least_effect_is_left_alone_however_sure_it_is() -> None:
    window = sketch_of(rows(np.random.default_rng(2), 20_000, 0.42))
    judged = drift.judge(window, reference_of(0.4, count=20_000), POLICY, 1)
    assert judged.verdict is Verdict.HEALTHY
    assert judged.features[0].p_value < judged.level


def test_the_share_spent_on_all_windows_is_the_policy() -> None:
    assert sum(drift.spent_on(position, 0.01) for position in range(1, 100_000)) == pytest.approx(0.01, rel=1e-3)


def test_a_judgement_names_the_worst_feature_of_the_closest_condition() -> None:
    values = rows(np.random.default_rng(3), 50)
    values[:, 1] += 0.3
    judged = drift.judge(sketch_of(values), reference_of(0.4, 0.95), POLICY, 1)
    assert (judged.closest, judged.features[0].feature, judged.features[0].deviates) == ("c0", "b", True)
    assert judged.features[0].effect > 0.8
    assert judged.features[0].p_value < 1e-6


def test_a_condition_speaks_only_for_its_own_features() -> None:
    inputs_only = Condition("drift-1", ["a", "b"], sketch_of(rows(np.random.default_rng(4), 500)))
    values = rows(np.random.default_rng(5), 50)
    values[:, 2] = 0.99
    assert drift.judge(sketch_of(values), Reference(GRID, [inputs_only]), POLICY, 1).verdict is Verdict.HEALTHY


def test_features_are_compared_by_their_own_counts() -> None:
    """A reference may have seen fewer values of one feature than of another; none at all says nothing."""
    values = np.random.default_rng(8).normal(0.4, 0.1, (500, 3)).astype(np.float32)
    values[100:, 1] = np.nan
    values[:, 2] = np.nan
    reference = Reference(GRID, [Condition("c", ["a", "b", "confidence"], sketch_of(values))])
    judged = drift.judge(sketch_of(rows(np.random.default_rng(9), 50)), reference, POLICY, 1)
    assert judged.verdict is Verdict.HEALTHY
    assert {test.feature: test.p_value for test in judged.features}["confidence"] == 1.0


def test_a_sketch_on_another_grid_is_refused() -> None:
    other = Grid(features=[Feature("x", "input", 0.0, 1.0)], bins=8)
    with pytest.raises(BadSketch):
        drift.judge(sketch_of(np.zeros((5, 1), np.float32), other), reference_of(0.4), POLICY, 1)


@pytest.mark.parametrize(
    ("verdicts", "streaks"),
    [
        pytest.param("dd", [1, 2], id="two in a row"),
        pytest.param("dhd", [1, 0, 1], id="a healthy window begins anew"),
        pytest.param("dud", [1, 1, 2], id="an unreadable window says nothing"),
    ],
)
def test_streaks(verdicts: str, streaks: list[int]) -> None:
    words = {"d": Verdict.DRIFTED, "h": Verdict.HEALTHY, "u": Verdict.UNREADABLE}
    before, seen = 0, []
    for letter in verdicts:
        before = drift.streak(before, words[letter])
        seen.append(before)
    assert seen == streaks
