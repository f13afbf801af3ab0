"""OpenCV counts what numpy counts."""

import numpy as np
import pytest

from edge_agent.monitor.counting import count_places


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
