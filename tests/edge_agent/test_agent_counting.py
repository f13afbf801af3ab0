"""OpenCV counts what numpy counts, and is called in where there is much to count."""

import numpy as np
import pytest

from edge_agent.monitor.counting import count_places, counter_for
from fleet_contract.sketch import Feature, Grid


@pytest.mark.parametrize(
    ("values", "n"),
    [
        pytest.param(0, 10, id="nothing"),
        pytest.param(1, 1, id="one place"),
        pytest.param(131_072, 8_448, id="a whole fold"),
        pytest.param(131_072, 65_536, id="every place of 16 bits"),
        pytest.param(1_000, 66, id="one feature"),
    ],
)
def test_places_are_counted(values: int, n: int) -> None:
    places = np.random.default_rng(n).integers(0, n, values).astype(np.uint16)
    assert np.array_equal(count_places(places, n), np.bincount(places, minlength=n))


def test_a_place_that_comes_often_is_counted_whole() -> None:
    assert count_places(np.full(131_072, 65_535, np.uint16), 65_536)[-1] == 131_072


@pytest.mark.parametrize(
    ("features", "counter"),
    [pytest.param(7, None, id="a camera's"), pytest.param(128, count_places, id="a machine's")],
)
def test_who_counts(features: int, counter: object) -> None:
    grid = Grid([Feature(f"f{number}", "input", 0.0, 1.0) for number in range(features)], 64)
    assert counter_for(grid) is counter
