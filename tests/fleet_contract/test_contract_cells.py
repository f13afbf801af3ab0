"""What cells of a CSV file say."""

import math

import pytest

from fleet_contract.cells import is_missing, to_number


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        pytest.param("7", 7.0, id="whole"),
        pytest.param(" -1.5e3 ", -1500.0, id="spaces around an exponent"),
        pytest.param("true", 1.0, id="true"),
        pytest.param("FALSE", 0.0, id="false in capitals"),
        pytest.param("inf", math.inf, id="infinity is for validation to refuse"),
    ],
)
def test_a_number(cell, number):
    assert to_number(cell) == number


@pytest.mark.parametrize("cell", ["", "warm", "1_000", "3,5", "yes", "0x10", "12 %"])
def test_no_number(cell):
    with pytest.raises(ValueError):
        to_number(cell)


@pytest.mark.parametrize(
    ("cell", "missing"), [("", True), (" NaN ", True), ("n/a", True), ("NULL", True), ("0", False), ("-", False), ("false", False)]
)
def test_missing(cell, missing):
    assert is_missing(cell) is missing
