"""Where a kill counts as fallen, and what the benchmark wants of its kills."""

from dataclasses import replace

import pytest

from bench import install_kills
from bench.install_kills import Kill, report
from bench.subject import Kind, Leg
from bench.updating import Sight
from edge_agent.update.phases import Phase
from edge_agent.update.state import Installed, State

FORWARD, BACK, BESIDE = (Leg("old", "new", kind) for kind in (Kind.GOOD, Kind.BAD, Kind.SHADOW))
KILL = Kill("proving", "supervisor and workers", Kind.GOOD)
EVERYWHERE = [replace(KILL, where=phase.value) for phase in Phase if phase is not Phase.IDLE]
UPDATED = Sight(phase="idle", active="new", ordered="new", answering="new")
WENT_BACK = Sight(phase="idle", active="old", ordered="new", answering="old", barred=True)
ACCOMPANIED = replace(WENT_BACK, barred=False, beside="new")


@pytest.mark.parametrize(
    ("kills", "missed", "holds"),
    [
        pytest.param(EVERYWHERE, 0, True, id="every phase was hit"),
        pytest.param(EVERYWHERE, 1, False, id="many kills, and a phase without one"),
        pytest.param([KILL], None, True, id="a few kills need not hit every phase"),
        pytest.param([replace(KILL, unrunnable="bad-digest")], None, False, id="no model"),
        pytest.param([replace(KILL, diverged="it ended elsewhere")], None, False, id="another model"),
        pytest.param([replace(KILL, victim="worker", refused=1)], None, False, id="a request given up"),
        pytest.param([], None, False, id="no kill at all"),
    ],
)
def test_what_holds(kills: list[Kill], missed: int | None, holds: bool) -> None:
    assert report(kills, missed).holds is holds


def test_kills_before_and_after_an_update_hit_no_phase() -> None:
    assert install_kills.missed_phases(EVERYWHERE) == 0
    assert install_kills.missed_phases([replace(kill, where="idle, after its end") for kill in EVERYWHERE]) == len(EVERYWHERE)


@pytest.mark.parametrize(
    ("leg", "journal", "where"),
    [
        pytest.param(FORWARD, State(active=Installed("a", "old", 1)), "idle, before it begins", id="not begun"),
        pytest.param(FORWARD, State(active=Installed("a", "new", 1)), "idle, after its end", id="committed"),
        pytest.param(FORWARD, State(phase=Phase.PROBATION, active=Installed("a", "new", 1)), "probation", id="on probation"),
        pytest.param(BESIDE, State(active=Installed("a", "old", 1)), "idle, before it begins", id="a shadow, not begun"),
        pytest.param(
            BESIDE, State(active=Installed("a", "old", 1), shadow=Installed("b", "new", 1)), "idle, after its end", id="a shadow is there"
        ),
        pytest.param(BACK, State(active=Installed("a", "old", 1)), "idle, before it begins", id="bad, not begun"),
        pytest.param(BACK, State(active=Installed("a", "old", 1), quarantined=("new",)), "idle, after its end", id="bad, gone back"),
    ],
)
def test_where_a_kill_fell(leg: Leg, journal: State, where: str) -> None:
    assert install_kills.phase_at(journal, leg) == where


@pytest.mark.parametrize(
    ("leg", "sight", "over"),
    [
        pytest.param(FORWARD, UPDATED, True, id="updated"),
        pytest.param(FORWARD, replace(UPDATED, phase="probation"), False, id="on probation"),
        pytest.param(FORWARD, replace(UPDATED, answering="old"), False, id="the old one still answers"),
        pytest.param(FORWARD, WENT_BACK, False, id="a good one was rejected"),
        pytest.param(BACK, WENT_BACK, True, id="went back"),
        pytest.param(BACK, replace(WENT_BACK, barred=False), False, id="went back without quarantine"),
        pytest.param(BACK, UPDATED, False, id="a bad one passed"),
        pytest.param(BESIDE, ACCOMPANIED, True, id="a shadow runs"),
        pytest.param(BESIDE, replace(ACCOMPANIED, beside=None), False, id="a shadow does not run yet"),
        pytest.param(BESIDE, replace(ACCOMPANIED, answering="new"), False, id="a shadow answers"),
        pytest.param(FORWARD, replace(UPDATED, beside="third"), False, id="a shadow outlives its order"),
    ],
)
def test_when_an_update_has_come_to_its_end(leg: Leg, sight: Sight, over: bool) -> None:
    assert leg.is_over(sight) is over
