"""What the benchmarks make of options that cannot be meant."""

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["install-kills", "--runs", "0"], "--runs: 0 must be 1 or more", id="no runs"),
        pytest.param(["install-kills", "--workers", "-1"], "--workers: -1 must be 1 or more", id="no workers"),
        pytest.param(["install-kills", "--every", "0"], "--every: 0 must be 1 or more", id="every none"),
        pytest.param(["power-cuts", "--runs", "x"], "--runs: invalid whole number value: 'x'", id="no number"),
        pytest.param(["delivery", "--devices", "0"], "--devices: 0 must be 1 to 200", id="no devices"),
        pytest.param(["serving", "--rounds", "0"], "--rounds: 0 must be 1 or more", id="no rounds"),
        pytest.param(["footprint", "--swaps", "1"], "--swaps: 1 must be 10 or more", id="too few swaps"),
        pytest.param(["delta", "--releases", "/nowhere"], "--releases: there is no folder /nowhere", id="no folder"),
    ],
)
def test_bad_options_end_at_once_with_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
