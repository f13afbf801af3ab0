"""The ledgers are compared to the record, and the report says what differs."""

import io
import json

import pytest
from rich.console import Console

from hil.screen import Screen
from hil.virtual_fleet import picture, report
from hil.virtual_fleet.comparison import compare
from hil.virtual_fleet.running import Gathered, Outcome
from hil.virtual_fleet.scenario import parse
from hil.virtual_fleet.script import Script
from hil.virtual_fleet.tally import DeviceCounts, LaneCounts, PhaseTally, Second, together, total


def counted(produced: int, acknowledged: int, queued: int, dropped: int = 0) -> list[DeviceCounts]:
    return [DeviceCounts("a", "e", {"telemetry": LaneCounts(produced, acknowledged, queued, dropped)}, None, 0)]


def line(stored: int, **changes: str) -> dict:
    return {"device": "a", "epoch": "e", "lane": "telemetry", "stored": stored, **changes}


@pytest.mark.parametrize(
    ("counts", "stored", "balances", "settled"),
    [
        pytest.param((10, 10, 0), 10, True, True, id="all stored"),
        pytest.param((10, 8, 0, 2), 8, True, True, id="the rest was dropped and counted"),
        pytest.param((10, 7, 3), 9, True, False, id="acknowledgements were on their way"),
        pytest.param((10, 10, 0), 9, False, False, id="one was lost"),
        pytest.param((10, 10, 0), 11, False, False, id="one is there twice"),
        pytest.param((10, 8, 0, 2), 10, False, False, id="what was dropped is stored"),
    ],
)
def test_compare(counts: tuple[int, ...], stored: int, balances: bool, settled: bool) -> None:
    found = compare(counted(*counts), [line(stored), line(99, device="other"), line(99, epoch="earlier")])
    assert (found.balances, found.settled) == (balances, settled)


def test_a_device_that_the_server_does_not_know_differs() -> None:
    found = compare(counted(5, 5, 0), [])
    assert [(each.device, each.expected, each.stored) for each in found.mismatches] == [("a", "5", 0)]


def test_seconds_of_two_processes_add_up() -> None:
    both = together([Second(1, 2, 3, 4, 5, 6, 7, 8), Second(2, 1, 1, 1, 1, 1, 1, 1), Second(1, 2, 3, 4, 5, 6, 7, 8)])
    assert [(second.at_s, second.online, second.again) for second in both] == [(1, 4, 16), (2, 1, 1)]


def test_attempts_that_failed_add_up_by_their_reason() -> None:
    both = total([PhaseTally(failed={"hung up": 1, "refused": 2}), PhaseTally(), PhaseTally(failed={"refused": 3})])
    assert both.failed == {"hung up": 1, "refused": 5}


def test_report_and_page_name_the_phases_and_the_verdict() -> None:
    scenario = parse({"name": "night", "duration_s": 4, "disturbances": [{"kind": "outage", "at_s": 1, "for_s": 1}]}, "test")
    phases = [(phase, PhaseTally(messages=3, failed={"hung up": 1, "refused": 2})) for phase in Script(scenario).phases()]
    gathered = Gathered(online=1, connected_s=0.5, known_s=0.6, cpu_s=0.1)
    outcome = Outcome(
        scenario, phases, [Second(at_s, 1, at_s, at_s, 0, 0, at_s, 0) for at_s in range(1, 5)], counted(4, 4, 0), 4.1, 0.2, gathered
    )
    comparison = compare(outcome.devices, [line(3)])
    told = report.as_json(outcome, comparison)
    assert json.loads(json.dumps(told))["ledger"]["balances"] is False
    assert [phase["name"] for phase in told["phases"]] == ["steady", "outage", "steady", "settling"]
    assert [*told["total"]["could_not_connect"].items()] == [("refused", 8), ("hung up", 4)]
    out = io.StringIO()
    report.show(Screen(Console(file=out)), outcome, comparison)
    assert "12 attempts to connect failed, 8 of them for this reason: refused" in out.getvalue()
    page = picture.page(outcome, comparison)
    assert "does not balance in 1 lanes" in page
    assert page.count("<polyline") == 4
