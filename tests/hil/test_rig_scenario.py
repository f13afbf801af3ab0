"""A scenario is read strictly, and says for every device and moment under which conditions it is."""

from itertools import pairwise
from pathlib import Path

import pytest

from hil.errors import BadScenario
from hil.virtual_fleet import scenario
from hil.virtual_fleet.script import Conditions, Script

EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples", "scenarios").glob("*.toml"))


def script(*disturbances: dict, duration_s: float = 60) -> Script:
    return Script(scenario.parse({"duration_s": duration_s, "disturbances": list(disturbances)}, "test"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_played(path: Path) -> None:
    found = scenario.load(path)
    assert found.name == path.stem
    assert Script(found).phases()[-1].name == "settling"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param({"duration": 5}, "duration", id="an unknown field"),
        pytest.param({"duration_s": 0}, "duration_s", id="no duration"),
        pytest.param({"load": {"rate_per_s": -1}}, "load.rate_per_s", id="a rate below zero"),
        pytest.param({"disturbances": [{"kind": "earthquake", "at_s": 1}]}, "disturbances[0].kind", id="an unknown disturbance"),
        pytest.param({"disturbances": [{"kind": "outage", "at_s": 1}]}, "for_s", id="an outage without an end"),
        pytest.param({"disturbances": [{"kind": "lossy-link", "at_s": 1, "for_s": 1, "loss": 1}]}, "loss", id="a link that loses all"),
        pytest.param({"disturbances": [{"kind": "outage", "at_s": 1, "for_s": 1, "share": 1.5}]}, "share", id="more than all devices"),
        pytest.param({"duration_s": 9, "disturbances": [{"kind": "outage", "at_s": 9, "for_s": 1}]}, "at_s", id="after the end"),
        pytest.param({"name": "../x"}, "name", id="a name that is a path"),
    ],
)
def test_a_bad_scenario_is_refused_by_the_field(content: dict, told: str) -> None:
    with pytest.raises(BadScenario, match=r"test: ") as refused:
        scenario.parse(content, "test")
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["duration_s = ", "x" * 70_000], ids=["not TOML", "too large"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BadScenario, match=r"bad\.toml"):
        scenario.load(path)


@pytest.mark.parametrize(
    ("disturbance", "at_s", "conditions"),
    [
        pytest.param({"kind": "outage", "at_s": 10, "for_s": 5}, 9.9, Conditions(), id="before"),
        pytest.param({"kind": "outage", "at_s": 10, "for_s": 5}, 10, Conditions(reachable=False), id="outage"),
        pytest.param({"kind": "outage", "at_s": 10, "for_s": 5}, 15, Conditions(), id="over"),
        pytest.param({"kind": "reconnect-storm", "at_s": 10}, 50, Conditions(storms=1), id="a storm has been"),
        pytest.param({"kind": "lossy-link", "at_s": 1, "for_s": 5, "loss": 0.25}, 2, Conditions(loss=0.25), id="lossy"),
        pytest.param({"kind": "slow-link", "at_s": 1, "for_s": 5, "bytes_per_s": 500}, 2, Conditions(bytes_per_s=500), id="slow"),
        pytest.param({"kind": "flood", "at_s": 1, "for_s": 5, "factor": 9}, 2, Conditions(rate=9), id="flood"),
        pytest.param({"kind": "clock-jump", "at_s": 1, "for_s": 5, "offset_s": -60}, 2, Conditions(clock_offset_s=-60), id="clock"),
        pytest.param({"kind": "drift", "at_s": 1, "for_s": 5, "shift": 0.5}, 2, Conditions(drift=0.5), id="drift"),
        pytest.param({"kind": "outage", "at_s": 50, "for_s": 100}, 60, Conditions(), id="nothing outlasts the load"),
    ],
)
def test_conditions(disturbance: dict, at_s: float, conditions: Conditions) -> None:
    assert script(disturbance).conditions("virtual-00001", at_s) == conditions


def test_two_at_once_add_up() -> None:
    both = script(
        {"kind": "lossy-link", "at_s": 0, "for_s": 9, "loss": 0.5},
        {"kind": "lossy-link", "at_s": 0, "for_s": 9, "loss": 0.5},
        {"kind": "flood", "at_s": 0, "for_s": 9, "factor": 2},
    )
    assert both.conditions("a", 1) == Conditions(loss=0.75, rate=2)


def test_a_share_of_the_devices_is_met_the_same_ones_each_time() -> None:
    third = script({"kind": "outage", "at_s": 0, "for_s": 9, "share": 0.3})
    met = [not third.conditions(f"device-{number}", 1).reachable for number in range(2_000)]
    assert 500 < sum(met) < 700
    assert met == [not third.conditions(f"device-{number}", 5).reachable for number in range(2_000)]


def test_phases_cover_the_load_without_gaps() -> None:
    found = script({"kind": "outage", "at_s": 10, "for_s": 20}, {"kind": "reconnect-storm", "at_s": 20}).phases()
    assert [(phase.name, phase.begin_s) for phase in found] == [
        ("steady", 0),
        ("outage", 10),
        ("outage + reconnect-storm", 20),
        ("steady", 30),
        ("settling", 60),
    ]
    assert all(before.end_s == after.begin_s for before, after in pairwise(found))
