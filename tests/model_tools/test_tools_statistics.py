"""How sure a difference is: against published values, and against what other libraries say."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from fleet_contract.outputs import Classification
from model_tools.compare.reliability import probabilities, reliability
from model_tools.compare.statistics import bootstrap, holm, mcnemar, paired_shares, sign_flips, signed_rank, weighted_auc, wilson


def rows(both: int, only_one: int, only_other: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, only_one, only_other, none)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        pytest.param(81, 263, 0.2553, 0.3662, id="Newcombe 1998, table I"),
        pytest.param(15, 148, 0.0624, 0.1605, id="Newcombe 1998, a small share"),
        pytest.param(0, 20, 0.0, 0.1611, id="none of 20 is not surely none"),
        pytest.param(29, 29, 0.8830, 1.0, id="all of 29"),
    ],
)
def test_wilson(hits, of, low, high):
    found = wilson(hits, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_no_rows_have_no_share():
    assert math.isnan(wilson(0, 0).low)


@pytest.mark.parametrize(
    ("table", "chance"),
    [
        pytest.param((10, 0, 0, 5), 1.0, id="no row answered by one alone"),
        pytest.param((50, 8, 2, 40), 0.109375, id="8 against 2: 2 * 56 / 1024"),
        pytest.param((50, 2, 8, 40), 0.109375, id="the same from the other side"),
        pytest.param((0, 10, 0, 0), 2 / 1024, id="10 against none"),
    ],
)
def test_mcnemar_is_exact(table, chance):
    assert mcnemar(*rows(*table)) == pytest.approx(chance)


@pytest.mark.parametrize(
    ("table", "value", "sure"),
    [
        pytest.param((100, 0, 0, 0), 0.0, False, id="no difference seen, some is possible"),
        pytest.param((700, 10, 200, 90), 0.19, True, id="better"),
        pytest.param((40, 3, 4, 3), 0.02, False, id="too few rows to say"),
    ],
)
def test_paired_shares(table, value, sure):
    found = paired_shares(*rows(*table))
    assert found.value == pytest.approx(value)
    assert found.low < value < found.high
    assert (found.low > 0 or found.high < 0) == sure


def test_an_interval_holds_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        one = rng.random(80) < 0.9
        other = np.where(rng.random(80) < 0.1, rng.random(80) < 0.5, one)
        found = paired_shares(one, other)
        held += found.low <= 0.1 * 0.5 - 0.1 * 0.9 <= found.high
    assert held >= 0.93 * 400


def test_holm_keeps_order_and_is_never_below_the_raw_chance():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_equal_estimates_differ_by_nothing():
    assert signed_rank(np.arange(9.0), np.arange(9.0)) == 1.0
    assert signed_rank(np.zeros(60), np.ones(60)) < 1e-6


@pytest.mark.parametrize(
    ("differences", "units", "least", "most"),
    [
        pytest.param([0, 0, 0], [0, 1, 2], 1.0, 1.0, id="no difference"),
        pytest.param([1] * 300, [0] * 100 + [1] * 100 + [2] * 100, 0.2, 0.3, id="many rows of three machines are three looks"),
        pytest.param([1] * 300, range(300), 0.001, 0.001, id="as many rows on their own are not"),
        pytest.param([1, -1] * 20, range(40), 0.9, 1.0, id="as much won as lost"),
    ],
)
def test_sign_flips_of_whole_units(differences, units, least, most):
    one = np.zeros(len(differences))
    assert least <= sign_flips(one, one + differences, np.array(units), 0) <= most


def test_a_bootstrap_over_groups_is_wider_than_over_their_rows():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 30)
    values = np.repeat(rng.normal(size=20), 30) + rng.normal(0, 0.1, 600)

    def mean(weights: np.ndarray) -> float:
        return float(weights @ values / weights.sum())

    by_group, by_row = bootstrap(mean, groups, 0), bootstrap(mean, np.arange(600), 0)
    assert by_group.high - by_group.low > 2 * (by_row.high - by_row.low)
    assert by_group == bootstrap(mean, groups, 0)


def test_few_groups_have_no_interval_and_say_so():
    found = bootstrap(lambda weights: 1.0, np.array([0, 0, 1, 1]), 0)
    assert math.isnan(found.low) and "fewer than 5" in found.way


def test_the_weighted_area_is_that_of_repeated_rows():
    rng = np.random.default_rng(1)
    labels, scores, counts = rng.integers(0, 2, 80), rng.integers(0, 9, 80) / 9, rng.integers(0, 4, 80)
    wanted = roc_auc_score(np.repeat(labels, counts), np.repeat(scores, counts))
    assert weighted_auc(labels, scores, counts.astype(float)) == pytest.approx(wanted)
    assert math.isnan(weighted_auc(np.zeros(3), np.arange(3.0), np.ones(3)))


class TestReliability:
    def test_a_model_that_is_surer_than_right(self):
        output = Classification("logits", ["a", "b"])
        told = reliability(np.array([[math.log(9), 0]] * 10), np.array([0] * 5 + [1] * 5), output)
        assert told.ece == pytest.approx(0.4)
        assert (told.confidence, told.accuracy, told.rows) == (pytest.approx([0.9]), [0.5], [10])
        assert told.nll == pytest.approx(log_loss([0] * 5 + [1] * 5, [[0.9, 0.1]] * 10))

    @pytest.mark.parametrize(
        ("activation", "outputs", "told"),
        [
            pytest.param("softmax", [[0.0, 0.0]], [[0.5, 0.5]], id="softmax"),
            pytest.param("softmax", [[1e4, -1e4]], [[1.0, 0.0]], id="softmax of huge logits"),
            pytest.param("sigmoid", [[0.0, -1e4]], [[0.5, 0.0]], id="sigmoid"),
            pytest.param("none", [[0.25, 0.75]], [[0.25, 0.75]], id="probabilities already"),
        ],
    )
    def test_probabilities(self, activation, outputs, told):
        output = Classification("logits", ["a", "b"], activation)
        assert probabilities(np.array(outputs), output) == pytest.approx(np.array(told))
