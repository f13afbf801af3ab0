"""When a board is hot, by its profile's limits, and what the server hears of it."""

from pathlib import Path

import pytest

from edge_agent.errors import Retry
from edge_agent.monitor.thermal import Heat, Thermometer, judge, read_celsius
from firmware_profiles.catalog import Thermal
from fleet_contract.messages import Event
from tests.fakes.agent_run_world import FakeClock, FakeStore

PI = Thermal(zone="cpu-thermal", throttle_c=80, limit_c=85)
SINGLE = Thermal(zone="main0-thermal", limit_c=125)


@pytest.mark.parametrize(
    ("before", "celsius", "thermal", "after"),
    [
        pytest.param(Heat.COOL, 79.9, PI, Heat.COOL, id="warm"),
        pytest.param(Heat.COOL, 80.0, PI, Heat.SLOWED, id="where it slows down"),
        pytest.param(Heat.COOL, 85.0, PI, Heat.TOO_HOT, id="at the limit at once"),
        pytest.param(Heat.SLOWED, 76.0, PI, Heat.SLOWED, id="hardly cooler"),
        pytest.param(Heat.SLOWED, 74.9, PI, Heat.COOL, id="cooled down"),
        pytest.param(Heat.SLOWED, 84.9, PI, Heat.SLOWED, id="below the limit still"),
        pytest.param(Heat.TOO_HOT, 81.0, PI, Heat.TOO_HOT, id="hardly below the limit"),
        pytest.param(Heat.TOO_HOT, 79.0, PI, Heat.SLOWED, id="below the limit"),
        pytest.param(Heat.TOO_HOT, 60.0, PI, Heat.COOL, id="cooled down at once"),
        pytest.param(Heat.COOL, 124.0, SINGLE, Heat.COOL, id="one limit alone: below"),
        pytest.param(Heat.COOL, 125.0, SINGLE, Heat.TOO_HOT, id="one limit alone: at it"),
    ],
)
def test_how_hot_a_board_is(before: Heat, celsius: float, thermal: Thermal, after: Heat) -> None:
    assert judge(before, celsius, thermal) is after


def zone(root: Path, number: int, kind: str, temperature: str) -> None:
    folder = root / f"sys/class/thermal/thermal_zone{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "type").write_text(f"{kind}\n")
    (folder / "temp").write_text(f"{temperature}\n")


@pytest.mark.parametrize(
    ("temperature", "celsius"),
    [pytest.param("45678", 45.678, id="milli"), pytest.param("-5000", -5.0, id="frost"), pytest.param("hot", None, id="nonsense")],
)
def test_a_zone_is_found_by_its_type(tmp_path: Path, temperature: str, celsius: float | None) -> None:
    zone(tmp_path, 0, "gpu-thermal", "99000")
    zone(tmp_path, 1, "cpu-thermal", temperature)
    assert read_celsius(tmp_path, "cpu-thermal") == celsius
    assert read_celsius(tmp_path, "npu-thermal") is None


def told(store: FakeStore) -> list[tuple[str, float, float]]:
    return [(event.kind, event.detail["celsius"], event.detail["limit_c"]) for event in store.of(Event)]


def test_the_server_hears_of_each_change_once(tmp_path: Path) -> None:
    clock, store = FakeClock(), FakeStore()
    thermometer = Thermometer(PI, tmp_path, store, clock)
    for temperature in ("", "70000", "81000", "82000", "86000", "79000", "70000", "70000"):
        if temperature:
            zone(tmp_path, 0, "cpu-thermal", temperature)
        thermometer.look()
        thermometer.look()
        clock.elapsed_s += 10
    assert told(store) == [("board.hot", 81.0, 80), ("board.too-hot", 86.0, 85), ("board.hot", 79.0, 80), ("board.cooled", 70.0, 85)]


def test_what_the_disk_did_not_take_is_told_at_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, store = FakeClock(), FakeStore()
    thermometer = Thermometer(PI, tmp_path, store, clock)
    zone(tmp_path, 0, "cpu-thermal", "90000")

    def full(*_args, **_kwargs) -> None:
        raise Retry("the disk is full", code="disk")

    with monkeypatch.context() as broken:
        broken.setattr(store, "append", full)
        thermometer.look()
    clock.elapsed_s += 10
    thermometer.look()
    assert told(store) == [("board.too-hot", 90.0, 85)]


def test_a_profile_without_limits_looks_at_nothing(tmp_path: Path) -> None:
    store = FakeStore()
    Thermometer(None, tmp_path, store, FakeClock()).look()
    assert told(store) == []
