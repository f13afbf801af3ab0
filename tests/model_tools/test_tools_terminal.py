"""What commands say to people: no JSON, numbers as one reads them."""

import pytest

from model_tools.terminal import lines


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param("a.bundle", ["it: a.bundle"], id="a word"),
        pytest.param(0.9624999999, ["it: 0.9625"], id="a figure"),
        pytest.param(123456.7, ["it: 123457"], id="a large figure"),
        pytest.param(None, [], id="nothing"),
        pytest.param({"int8": 9669, "fp32": 18775}, ["it: int8 9669, fp32 18775"], id="some figures"),
        pytest.param({"train": {"u": 3}, "test": {}}, ["it:", "  train: u 3"], id="figures of parts"),
        pytest.param(["one", "two"], ["it:", "  one", "  two"], id="words"),
        pytest.param([{"a": 1}, {"a": 2}], ["it:", "  -: a 1", "  -: a 2"], id="records"),
        pytest.param({}, [], id="an empty table"),
        pytest.param({"train": {}, "test": {}}, [], id="empty tables"),
    ],
)
def test_values_are_told_in_lines(value: object, told: list[str]) -> None:
    assert lines("it", value) == told
