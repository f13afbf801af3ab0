"""The rules of the fleet benchmark: what lag is, when everything is decoded, and what was saturated."""

from collections import Counter

import pytest

from bench.fleet import processor, trial
from hil.virtual_fleet.tally import Second


@pytest.mark.parametrize(
    ("behind", "after_s"),
    [
        pytest.param({8: 5, 10: 0, 11: 0}, 0.0, id="nothing waited at the end"),
        pytest.param({9: 500, 10: 200, 11: 20, 12: 0, 13: 0}, 2.0, id="two seconds behind"),
        pytest.param({9: 0, 10: 0, 11: 20, 12: 0}, 2.0, id="something came late"),
        pytest.param({9: 500, 10: 20}, None, id="nobody saw it empty"),
        pytest.param({}, None, id="nobody looked"),
    ],
)
def test_everything_is_decoded_when_the_inbox_is_empty_for_good(behind: dict[int, int], after_s: float | None) -> None:
    assert trial.decoded_after(behind, seconds=10) == after_s


@pytest.mark.parametrize(
    ("shares", "limit"),
    [
        pytest.param({"broker": 0.95, "devices": 0.6}, "broker", id="one thread"),
        pytest.param({"broker": 0.7, "devices": 0.7, "database": 0.5}, "all 2 processors", id="the machine"),
        pytest.param({"broker": 0.4, processor.OTHERS: 1.5}, "all 2 processors", id="somebody else"),
        pytest.param({"broker": 0.4}, "no processor", id="something else"),
    ],
)
def test_what_could_do_no_more(shares: dict[str, float], limit: str) -> None:
    assert processor.saturated(Counter(shares), 2) == limit


def test_the_processor_is_measured_while_the_load_lasts() -> None:
    spent = {1: Counter(broker=5.0), 3: Counter(broker=6.0, lake=1.0), 9: Counter(broker=60.0)}
    assert trial.shares(spent, seconds=4) == Counter(broker=0.5, lake=0.5)
    assert trial.shares({1: Counter(broker=5.0)}, seconds=4) == Counter()


def test_lag_is_what_waits_on_devices_in_seconds_of_the_load() -> None:
    counts = {"online": 10, "produced": 0, "acknowledged": 0, "dropped": 0, "messages": 0, "again": 0}
    assert trial.lags([Second(at_s=1, queued=300, **counts), Second(at_s=2, queued=0, **counts)], per_s=50, rows=3) == [2.0, 0.0]


def test_a_machine_that_is_measured_has_used_its_processors() -> None:
    import os

    assert processor.used([os.getpid()])[processor.OTHERS] > 0
